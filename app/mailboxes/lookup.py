"""Finds the mailbox that a path of the API names, for the capabilities that work on what belongs to a mailbox."""

from app.access.grant import Grant
from app.addressing import MailboxKey
from app.database.pool import Pool
from app.errors import NotFound
from app.mailboxes import store
from app.mailboxes.model import Mailbox

ABSENT = "there is no mailbox with this id or extension"


async def seen_mailbox(pool: Pool, grant: Grant, key: MailboxKey, asked: str | None) -> Mailbox:
    """The mailbox of this key in the domain that a call names. Raises ``NotFound``, alike for what the grant does not show."""
    domain = grant.domain(asked, absent=ABSENT)
    async with pool.acquire() as connection:
        mailbox = await store.find_key(connection, domain, key)
    if mailbox is None or not grant.sees(mailbox.address):
        raise NotFound(ABSENT)
    return mailbox
