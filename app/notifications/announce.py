"""Which new messages are to be mailed: decided in the transaction that records them, so that none is lost or mailed twice."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

from app.addressing import Domain, MailboxAddress
from app.database.pool import Connection
from app.domains import store as domains
from app.errors import Invalid
from app.jobs.queue import Jobs
from app.jobs.retries import job_key
from app.mailboxes import store as mailboxes
from app.mailboxes.model import Mailbox
from app.messages.model import Message
from app.notifications import store as ledger
from app.notifications.mail.sender import Sender
from app.notifications.model import NOTIFY, Draft


class Announcer:
    """Queues the mail for each new message whose mailbox wants one."""

    def __init__(self, jobs: Jobs, *, mail_from: str) -> None:
        """``mail_from``: the sender's address of domains that have none. A Message-ID ends with the host of the sender."""
        self._jobs = jobs
        self._mail_from = mail_from

    async def announce(self, connection: Connection, messages: Sequence[Message]) -> None:
        """Queue one mail for each message, in the connection's transaction; never a second mail for the same message."""
        addresses = {address for message in messages if (address := _address(message))}
        found = {address: await mailboxes.find(connection, address.domain, address.extension) for address in addresses}
        hosted = {domain: await domains.get(connection, domain) for domain in {address.domain for address in addresses}}
        senders = {name: Sender.of_domain(one.settings, self._mail_from) for name, one in hosted.items() if one}
        drafts = [draft for message in messages if (draft := _draft(message, found, senders))]
        if not drafts:
            return
        added = await ledger.add(connection, drafts)
        await self._jobs.enqueue_many(connection, NOTIFY, [(str(new), job_key(new, 0), 0.0) for new in added])


def _draft(message: Message, found: Mapping[MailboxAddress, Mailbox | None], senders: Mapping[Domain, Sender]) -> Draft | None:
    """The mail of a message; None for a mailbox that wants none, and for one of a domain that is not hosted here."""
    address = _address(message)
    mailbox = found.get(address) if address else None
    if address is None or mailbox is None or not mailbox.enabled or not mailbox.mail_to or address.domain not in senders:
        return None
    new = uuid4()
    return Draft(
        id=new,
        message_id=message.id,
        mailbox_id=mailbox.id,
        address=address,
        mail_message_id=f"<{new}@{senders[address.domain].host}>",
        local_after_email=mailbox.local_after_email,
        recipients=tuple(dict.fromkeys(mailbox.mail_to)),
    )


def _address(message: Message) -> MailboxAddress | None:
    # A row may name a mailbox that nobody could have created through the API.
    try:
        return message.address
    except Invalid:
        return None
