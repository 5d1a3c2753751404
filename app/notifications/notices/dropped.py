"""Tells addresses that a mailbox's voicemail goes to them no more, so that nobody diverts it unseen."""

from collections.abc import Callable, Sequence
from uuid import uuid4

import structlog

from app.database.pool import Connection
from app.domains import store as domains
from app.domains.model import DomainSettings
from app.jobs.queue import Jobs
from app.jobs.retries import job_key
from app.mailboxes.model import Mailbox
from app.notifications.mail.sender import Sender
from app.notifications.notices import store
from app.notifications.notices.model import NOTICE, NewNotice, NoticeKind

log = structlog.get_logger(__name__)

SETTLING = 5.0  # seconds: a change that is taken back by then, or a mailbox that is made anew, tells nobody
# Who may change mailboxes could name strangers and drop them again, to have them mailed. So there are limits an hour, but not for
# addresses that voicemail of the mailbox has reached: nobody can use up the limit first and then divert a mailbox unseen.
MOST_OF_MAILBOX, MOST_TO_ADDRESS, MOST_OF_DOMAIN = 20, 3, 100
_ENOUGH = "there were enough such mails within the hour"
_NOT_ALLOWED = "mails of this domain may not go to this address (mail_domains)"


class DroppedAddresses:
    """Queues a mail to each address that a change or a deletion drops."""

    def __init__(self, jobs: Jobs, *, mail_from: str, settling: float = SETTLING) -> None:
        """``mail_from``: the sender's address of domains that have none."""
        self._jobs = jobs
        self._mail_from = mail_from
        self._settling = settling

    async def tell(self, connection: Connection, mailbox: Mailbox, addresses: Sequence[str]) -> None:
        """Queue the mails in the connection's transaction, which holds the mailbox's row."""
        if not addresses:
            return
        hosted = await domains.get(connection, mailbox.address.domain)
        settings = hosted.settings if hosted else DomainSettings()
        host = Sender.of_domain(settings, self._mail_from).host
        enough = await self._enough(connection, mailbox, addresses)
        notices = []
        for address in addresses:
            refused = "" if settings.allows_mail_to(address) else _NOT_ALLOWED
            if not refused and enough(address.lower()):
                refused = _ENOUGH
            new = uuid4()
            notices.append(NewNotice(new, NoticeKind.DROPPED, mailbox.address, address, f"<{new}@{host}>", refused=refused))
        await store.add(connection, notices, delay=self._settling)
        queued = [(str(one.id), job_key(one.id, 0), self._settling) for one in notices if not one.refused]
        await self._jobs.enqueue_many(connection, NOTICE, queued)
        if len(queued) < len(notices):
            log.warning("dropped_addresses_not_told", mailbox=str(mailbox.address), count=len(notices) - len(queued))

    @staticmethod
    async def _enough(connection: Connection, mailbox: Mailbox, addresses: Sequence[str]) -> Callable[[str], bool]:
        """Whether an address, in small letters, must not be told; each one that may be counts from then on."""
        folded = [address.lower() for address in addresses]
        await store.lock_limits(connection)
        in_domain = await store.told_in(connection, mailbox.address.domain)
        of_mailbox = [address for extension, address in in_domain if extension == mailbox.address.extension]
        told = await store.told(connection, folded)
        reached = await store.reached(connection, mailbox.id, folded)

        def enough(address: str) -> bool:
            limited = (
                len(of_mailbox) >= MOST_OF_MAILBOX or told.get(address, 0) >= MOST_TO_ADDRESS or len(in_domain) >= MOST_OF_DOMAIN
            )
            if address in of_mailbox or (limited and address not in reached):
                return True
            of_mailbox.append(address)
            in_domain.append((mailbox.address.extension, address))
            return False

        return enough
