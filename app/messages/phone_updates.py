"""Tells phones how many messages their mailbox has after this service changed some: once for many changes, and never forgotten.

A change writes its mailboxes down before it is made (``ask``) and calls ``soon`` after it. If the process dies in between, any
copy of the service tells the phones a little later.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import Invalid, SwitchRefused, SwitchUnavailable
from app.jobs.loop import Loop, Trouble
from app.jobs.retries import Retries
from app.switch.mwi import MessageWaiting

_GATHER = 0.1  # seconds in which further changes share one MWI
_PAUSE = 0.4  # seconds between two MWI of a mailbox
_EVERY = 2.0  # seconds between two looks for what another process left
_FALLBACK = 10.0  # seconds after which another process does it
_AT_ONCE = 8
_RETRIES = Retries(first=1.0, longest=30.0)

ASK = """
INSERT INTO voicemail.phone_update (domain, username, due_at)
SELECT d, u, now() + make_interval(secs => $3) FROM unnest($1::text[], $2::text[]) AS a(d, u) ORDER BY d, u
ON CONFLICT (domain, username) DO UPDATE SET revision = phone_update.revision + 1, tries = 0,
    due_at = least(phone_update.due_at, excluded.due_at)
"""
# The lease keeps other processes away for as long as a try may take.
_LEASE = "tries = tries + 1, due_at = now() + make_interval(secs => $1) WHERE"
DUE = f"""
UPDATE voicemail.phone_update SET {_LEASE} (domain, username) IN (
    SELECT domain, username FROM voicemail.phone_update WHERE due_at <= now() ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED
) RETURNING domain, username, revision, tries
"""  # noqa: S608 - constants of this module
THESE = f"""
UPDATE voicemail.phone_update SET {_LEASE} (domain, username) IN (
    SELECT domain, username FROM voicemail.phone_update
    WHERE (domain, username) IN (SELECT d, u FROM unnest($2::text[], $3::text[]) AS a(d, u))
    ORDER BY domain, username FOR UPDATE
) RETURNING domain, username, revision, tries
"""  # noqa: S608
DONE = "DELETE FROM voicemail.phone_update WHERE domain = $1 AND username = $2 AND revision = $3"
LATER = "UPDATE voicemail.phone_update SET due_at = now() + make_interval(secs => $3) WHERE domain = $1 AND username = $2"


def mailbox_of(domain: str, username: str) -> MailboxAddress | None:
    """The mailbox of a row; None if no phone can have it."""
    try:
        return MailboxAddress(Extension.parse(username), Domain.parse(domain))
    except Invalid:
        return None


class PhoneUpdates:
    """Sends MWI for mailboxes that were changed; one instance a process, many processes at once."""

    def __init__(self, pool: Pool, mwi: MessageWaiting) -> None:
        self._pool, self._mwi = pool, mwi
        self._soon: set[MailboxAddress] = set()
        self._together, self._later = 0, set[MailboxAddress]()
        self._trouble = Trouble("phone_updates")
        self._loop = Loop("phone_updates", self._gathered, every=_EVERY, least=_PAUSE)

    async def ask(self, connection: Connection, addresses: Collection[MailboxAddress]) -> None:
        """Write down, in the connection's transaction and before the change, that these mailboxes' phones are to be told."""
        if addresses:
            names = sorted({(address.domain, address.extension) for address in addresses})
            await connection.execute(ASK, [domain for domain, _ in names], [name for _, name in names], _FALLBACK)

    def soon(self, addresses: Collection[MailboxAddress]) -> None:
        """Tell the phones of these mailboxes now, because they are changed."""
        if self._together:
            self._later.update(addresses)
        elif addresses:
            self._soon.update(addresses)
            self._loop.wake()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell the phones of what is changed in the block when it ends, so that many changes are one MWI a mailbox."""
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            if not self._together:
                later, self._later = self._later, set()
                self.soon(later)

    async def run(self) -> None:
        """Tell phones until cancelled."""
        await self._loop.run()

    async def _gathered(self) -> None:
        if self._soon:
            await asyncio.sleep(_GATHER)
        await self.step()

    async def step(self) -> None:
        """Tell the phones of the mailboxes that are due."""
        soon, self._soon = self._soon, set()
        rows = []
        async with self._pool.acquire() as connection:
            if soon:
                names = [address.domain for address in soon], [address.extension for address in soon]
                rows += await connection.fetch(THESE, _RETRIES.lease, *names)
            rows += await connection.fetch(DUE, _RETRIES.lease)
        turn = asyncio.Semaphore(_AT_ONCE)

        async def tell(domain: str, username: str, revision: int, tries: int) -> None:
            async with turn:
                await self._tell(domain, username, revision, tries)

        await asyncio.gather(*(tell(*row) for row in rows))

    async def _tell(self, domain: str, username: str, revision: int, tries: int) -> None:
        address = mailbox_of(domain, username)
        try:
            if address is not None:
                await self._mwi.refresh_until_right(address, lambda: address in self._soon)
        except (SwitchUnavailable, SwitchRefused) as error:
            self._trouble.tell(error.detail)
            await self._pool.execute(LATER, domain, username, _RETRIES.delay(tries))
            return
        self._trouble.over()
        await self._pool.execute(DONE, domain, username, revision)
