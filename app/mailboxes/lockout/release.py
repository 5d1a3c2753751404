"""``voicemail mailbox unlock``: ends a lock, whether or not a service runs."""

from app.access.grant import Grant
from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.errors import NotFound
from app.mailboxes import store
from app.mailboxes.directory import store as entries
from app.mailboxes.lockout import locks


class Unlocking:
    """Ends locks in the table; the running service brings that to the switch, or the next one that starts."""

    def __init__(self, pool: Pool, by: Grant) -> None:
        self._pool = pool
        self._by = by

    async def unlock(self, address: MailboxAddress) -> bool:
        """End a mailbox's lock and count from nothing; whether it was locked. Raises ``NotFound``."""
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = await store.lock(connection, address.domain, address.extension)
            if mailbox is None:
                raise NotFound(f"there is no mailbox {address}")
            ended = await locks.release(connection, mailbox, self._by)
            if ended:
                await entries.raise_revisions(connection, address.domain, [address.extension])
        return ended
