"""What the switch must learn: noted with every change, and looked for at the start."""

import asyncio
from collections.abc import Sequence

import structlog

from app.addressing import Domain, Extension
from app.database.pool import Connection, Pool
from app.mailboxes import batch_store, entries, store
from app.mailboxes.batches import DirectoryBatches, directory_user
from app.mailboxes.model import DirectoryStatus, Mailbox
from app.mailboxes.pins import PinCipher, PinUnreadable
from app.switch.directory import Directory, DirectoryRefused, DirectoryUser

log = structlog.get_logger(__name__)

_WALK = 1000


class DirectoryPublisher:
    """Notes what the switch must learn; ``DirectoryBatches`` brings it there. Every step may be repeated, by any process."""

    def __init__(
        self,
        *,
        pool: Pool,
        domain: Domain,
        cipher: PinCipher,
        directory: Directory,
        batches: DirectoryBatches,
    ) -> None:
        self._pool = pool
        self._domain = domain
        self._cipher = cipher
        self._directory = directory
        self._batches = batches

    async def resume(self) -> None:
        """Let everything be tried now that is not applied: the switch is back, or the service started."""
        async with self._pool.acquire() as connection, connection.transaction():
            waiting = await batch_store.pull_forward(connection, self._domain)
        if waiting:
            log.info("directory_resumed", entries=waiting)
        self._batches.wake()

    async def reconcile(self) -> None:
        """At the start: what is laid down for the switch and what stands in the table may differ after a restore of either."""
        try:
            # In this order: what is laid down was in the table before.
            found = set(await self._directory.found())
            strays = await self._strays(found)
        except DirectoryRefused as error:
            log.warning("directory_not_readable", detail=error.detail)
            return
        if strays:
            log.info("directory_reconciled", entries=len(strays))
            async with self._pool.acquire() as connection, connection.transaction():
                await self.announce(connection, strays)

    async def announce(self, connection: Connection, extensions: Sequence[str]) -> dict[str, int]:
        """Note in the caller's transaction that the switch must learn of these extensions; their new revisions."""
        return await entries.raise_revisions(connection, self._domain, extensions)

    async def _strays(self, found: set[Extension]) -> list[str]:
        strays: list[str] = []
        last = ""
        while True:
            async with self._pool.acquire() as connection:
                mailboxes = await store.after(connection, self._domain, last, limit=_WALK)
            if not mailboxes:
                return strays + sorted(found)
            last = mailboxes[-1].address.extension
            found -= {mailbox.address.extension for mailbox in mailboxes}
            applied = [mailbox for mailbox in mailboxes if mailbox.directory.state is DirectoryStatus.APPLIED]
            strays += await self._directory.differing(await asyncio.to_thread(self._readable, applied))

    def _readable(self, mailboxes: Sequence[Mailbox]) -> list[DirectoryUser]:
        users = []
        for mailbox in mailboxes:
            try:
                users.append(directory_user(self._cipher, mailbox))
            except PinUnreadable:
                log.error("pin_unreadable", extension=mailbox.address.extension)
        return users
