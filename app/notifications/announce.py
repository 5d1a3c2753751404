"""Which new messages are to be mailed: decided in the transaction that records them, so that none is lost or mailed twice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import structlog

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
from app.notifications.notices import digest_store as digests
from app.notifications.notices.model import DIGEST, Digest

log = structlog.get_logger(__name__)


class Announcer:
    """Queues the mail for each new message whose mailbox wants one."""

    def __init__(self, jobs: Jobs, *, mail_from: str, per_hour: int = 0, hour: float = 3600.0) -> None:
        """``mail_from``: the sender's address of domains that have none. A Message-ID ends with the host of the sender.

        ``per_hour``: how many mails a mailbox may have in ``hour`` seconds, 0: any number. A digest announces further messages.
        """
        self._jobs = jobs
        self._mail_from = mail_from
        self._per_hour, self._hour = per_hour, hour

    async def announce(self, connection: Connection, messages: Sequence[Message]) -> None:
        """Queue one mail for each message, in the connection's transaction; never a second mail for the same message."""
        addresses = {address for message in messages if (address := _address(message))}
        found = {address: await mailboxes.find(connection, address.domain, address.extension) for address in addresses}
        hosted = {domain: await domains.get(connection, domain) for domain in {address.domain for address in addresses}}
        senders = {name: Sender.of_domain(one.settings, self._mail_from) for name, one in hosted.items() if one}
        drafts = [draft for message in messages if (draft := _draft(message, found, senders))]
        if not drafts:
            return
        if self._per_hour:
            drafts = await self._limited(connection, drafts)
        added = await ledger.add(connection, drafts)
        await self._jobs.enqueue_many(connection, NOTIFY, [(str(new), job_key(new, 0), 0.0) for new in added])

    async def _limited(self, connection: Connection, drafts: Sequence[Draft]) -> list[Draft]:
        """The drafts, those beyond their mailbox's limit put into its digest. Messages are recorded by one process at a time."""
        by_mailbox: dict[UUID, list[Draft]] = {}
        for draft in drafts:
            by_mailbox.setdefault(draft.mailbox_id, []).append(draft)
        limited: list[Draft] = []
        for mailbox_id, own in by_mailbox.items():
            free = self._per_hour - await digests.mailed(connection, mailbox_id, self._hour, self._per_hour)
            limited += own[:free]
            if own[free:]:
                digest = await self._digest(connection, own[free])
                limited += [replace(d, digest_id=digest.id, mail_message_id=digest.mail_message_id) for d in own[free:]]
        return limited

    async def _digest(self, connection: Connection, draft: Draft) -> Digest:
        """The open digest of a draft's mailbox; its job is queued in this transaction."""
        new = Digest(draft.id, draft.mailbox_id, draft.address, draft.mail_message_id)
        digest, delay = await digests.open_for(connection, new, self._hour)
        await self._jobs.enqueue(connection, DIGEST, str(digest.id), dedupe_key=job_key(digest.id, 0), delay=delay)
        if digest.id == new.id:
            log.warning("mails_limited", mailbox=str(draft.address), digest=str(digest.id), per_hour=self._per_hour)
        return digest


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
