"""Notes, with every change and at the start, which mailboxes the switch must learn."""

from collections.abc import Sequence
from contextlib import suppress

import structlog

from app.addressing import Domain
from app.database.pool import Connection, Pool
from app.mailboxes.directory import batch_store
from app.mailboxes.directory import store as entries
from app.mailboxes.directory.batches import DirectoryBatches, directory_user
from app.mailboxes.model import Mailbox
from app.mailboxes.pins.cipher import PinCipher, PinUnreadable
from app.switch.directory.model import DirectoryUser

log = structlog.get_logger(__name__)


class DirectoryPublisher:
    """Notes which mailboxes the switch must learn; ``DirectoryBatches`` applies them. Any process may repeat any step."""

    def __init__(
        self,
        *,
        pool: Pool,
        only: Domain | None,
        cipher: PinCipher,
        batches: DirectoryBatches,
    ) -> None:
        """``only``: the one domain that is served; None: every domain."""
        self._pool = pool
        self._only = only
        self._cipher = cipher
        self._batches = batches

    async def resume(self) -> None:
        """Make every entry that is not applied due now: the switch is back, or the service started."""
        async with self._pool.acquire() as connection, connection.transaction():
            waiting = await batch_store.pull_forward(connection, self._only)
        if waiting:
            log.info("directory_resumed", entries=waiting)
        self._batches.wake()

    async def announce(self, connection: Connection, domain: Domain, extensions: Sequence[str]) -> dict[str, int]:
        """Note in the caller's transaction that the switch must learn of these extensions of a domain; their new revisions."""
        return await entries.raise_revisions(connection, domain, extensions)

    def readable(self, mailboxes: Sequence[Mailbox]) -> list[DirectoryUser]:
        """The mailboxes as the switch must know them, without those whose PIN cannot be read."""
        users = []
        for mailbox in mailboxes:
            with suppress(PinUnreadable):
                users.append(directory_user(self._cipher, mailbox))
        return users
