"""The messages of one mailbox, which its id or its extension names: the list of them, and how many there are."""

from app.access.grant import Grant
from app.addressing import MailboxAddress, MailboxKey
from app.database.pool import Pool
from app.database.readers import Readers
from app.errors import NotFound
from app.mailboxes import counted
from app.mailboxes import store as mailboxes
from app.mailboxes.counted import MailboxCounts

_ABSENT = "there is no mailbox with this id or extension"


class MailboxMessages:
    """Finds a mailbox and counts its messages."""

    def __init__(self, pool: Pool, switch_readers: Readers) -> None:
        self._pool = pool
        self._switch_readers = switch_readers

    async def mailbox(self, grant: Grant, key: str, *, domain: str | None = None) -> MailboxAddress:
        """The mailbox with this id or extension in ``domain``, or in the grant's default one. Raises ``NotFound``."""
        named = grant.domain(domain, absent=_ABSENT)
        async with self._pool.acquire() as connection:
            found = await mailboxes.find_key(connection, named, MailboxKey.parse(key))
        if found is None or not grant.sees(found.address):
            raise NotFound(_ABSENT)
        return found.address

    async def count(self, grant: Grant, key: str, *, domain: str | None = None) -> MailboxCounts:
        """How many messages it has. Raises ``NotFound``."""
        (found,) = await counted.of_mailboxes(self._switch_readers, self._pool, [await self.mailbox(grant, key, domain=domain)])
        return found
