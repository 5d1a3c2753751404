"""Whom a mailbox's mails may go to, and which addresses a change drops."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from app.addressing import Domain
from app.database.pool import Connection
from app.domains import store as domains
from app.errors import Invalid
from app.mailboxes.model import Mailbox

# Called in the transaction of a change, with the mailbox as it was and the addresses that it has no more.
Dropped: TypeAlias = Callable[[Connection, Mailbox, Sequence[str]], Awaitable[None]]


async def nobody_is_told(connection: Connection, mailbox: Mailbox, addresses: Sequence[str]) -> None:
    """For callers that never change an address."""


async def check_recipients(connection: Connection, domain: Domain, addresses: Sequence[str]) -> None:
    """Raise ``Invalid`` if the domain does not allow mail to one of the addresses of its mailbox."""
    hosted = await domains.get(connection, domain)
    refused = [address for address in addresses if hosted and not hosted.settings.allows_mail_to(address)]
    if hosted and refused:
        allowed = ", ".join(hosted.settings.mail_domains)
        raise Invalid.field("mail_to", f"{refused[0]}: mails of this domain may only go to addresses at {allowed}")


def dropped(before: Mailbox, after: Mailbox | None) -> list[str]:
    """The addresses that a mailbox has no more; None: it is deleted. Only capitals of the host make no difference."""
    kept = {_folded(address) for address in after.mail_to} if after else set()
    return [address for address in before.mail_to if _folded(address) not in kept]


def _folded(address: str) -> str:
    local, _, host = address.rpartition("@")
    return f"{local}@{host.lower()}"
