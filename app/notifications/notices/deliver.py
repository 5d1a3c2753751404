"""Delivers notices, one attempt for each job, and closes digests: as for notifications, the rows hold attempts and outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import structlog

from app.database.pool import Connection, Pool
from app.domains import store as domains
from app.domains.model import DomainSettings
from app.errors import DatabaseFailed, Unavailable
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.jobs.repeats import Repeats
from app.jobs.retries import job_key
from app.mailboxes import store as mailboxes
from app.mailboxes.model import Mailbox
from app.notifications.delivery import Overtaken, Transport
from app.notifications.insist import insist
from app.notifications.mail.sender import Sender
from app.notifications.model import MailRetries, Outcome, RecipientState
from app.notifications.notices import digest_store as digests
from app.notifications.notices import store
from app.notifications.notices.model import NOTICE, NewNotice, Notice, NoticeKind, NoticeState
from app.notifications.notices.words import MOST_IN_DIGEST, digest_mail, dropped_mail
from app.notifications.zone import zone_of
from app.text import ascii_address

log = structlog.get_logger(__name__)

_FINAL = {RecipientState.ACCEPTED: NoticeState.SENT, RecipientState.REFUSED: NoticeState.FAILED}


@dataclass(frozen=True, slots=True)
class _Attempt:
    notice: Notice
    mail: bytes
    to: str
    sender: str


class NoticeMailer:
    """Sends notices; one instance a process, many processes at once."""

    def __init__(
        self,
        *,
        pool: Pool,
        jobs: Jobs,
        claims: Claims,
        transport: Transport,
        zone: ZoneInfo,
        mail_from: str,
        retries: MailRetries = MailRetries(),  # noqa: B008 - it is frozen
        patience: float = 60.0,
    ) -> None:
        """``zone`` and ``mail_from``: of domains that have none. ``patience``: seconds an outcome waits for the database."""
        self._pool, self._jobs, self._claims, self._transport = pool, jobs, claims, transport
        self._zone, self._mail_from = zone, mail_from
        self._retries, self._patience = retries, patience
        self._repeats = Repeats()

    async def close_digest(self, digest_id: str) -> None:
        """Close a digest that is due, and queue its mail to each address of its mailbox. The handler of ``digest`` jobs."""
        async with self._pool.acquire() as connection, connection.transaction():
            digest = await digests.close(connection, UUID(digest_id))
            if digest is None:
                return
            mailbox = await mailboxes.find(connection, digest.mailbox.domain, digest.mailbox.extension)
            wanted = mailbox.mail_to if mailbox and mailbox.id == digest.mailbox_id and mailbox.enabled else ()
            notices = [
                NewNotice(uuid4(), NoticeKind.DIGEST, digest.mailbox, address, digest.mail_message_id, digest.id)
                for address in dict.fromkeys(wanted)
            ]
            await store.add(connection, notices)
            await self._jobs.enqueue_many(connection, NOTICE, [(str(one.id), job_key(one.id, 0), 0.0) for one in notices])
        log.info("digest_closed", mailbox=str(digest.mailbox), digest=str(digest.id), recipients=len(notices))

    async def deliver(self, notice_id: str) -> None:
        """Make one attempt, if it is due and no other process makes one. The handler of ``notice`` jobs."""
        async with self._claims.hold(UUID(notice_id)) as ours:
            if ours and (attempt := await self._begin(UUID(notice_id))):
                await self._attempt(attempt)

    async def _begin(self, notice_id: UUID) -> _Attempt | None:
        """Count the attempt and write the mail; None if there is nothing to send."""
        async with self._pool.acquire() as connection, connection.transaction():
            notice = await store.begin(connection, notice_id, self._retries)
            if notice is None:
                return None
            box = notice.mailbox
            hosted = await domains.get(connection, box.domain)
            settings = hosted.settings if hosted else DomainSettings()
            mailbox = await mailboxes.find(connection, box.domain, box.extension)
            to = ascii_address(notice.address)
            if why := self._obstacle(notice, mailbox, settings):
                await self._settle(connection, notice, NoticeState.CANCELLED, why)
            elif notice.unknowns > self._retries.unknown_tries:
                why = "sent several times, and the mail server never said whether it accepted it"
                await self._settle(connection, notice, NoticeState.UNKNOWN, why)
            elif to is None:
                await self._settle(connection, notice, NoticeState.FAILED, "not an address that this service can mail to")
            else:
                sender = Sender.of_domain(settings, self._mail_from)
                zone = zone_of((mailbox and mailbox.time_zone) or settings.time_zone, self._zone)
                return _Attempt(notice, await self._mail(connection, notice, zone, to, sender), to, sender.address)
        return None

    @staticmethod
    def _obstacle(notice: Notice, mailbox: Mailbox | None, settings: DomainSettings) -> str:
        """Why the notice is not to be sent, as everything stands now."""
        if not settings.allows_mail_to(notice.address):
            return "mails of this domain may not go to this address (mail_domains)"
        has_it = mailbox is not None and notice.address.lower() in [address.lower() for address in mailbox.mail_to]
        if notice.kind is NoticeKind.DROPPED:
            return "the mailbox has the address again" if has_it else ""
        if mailbox is None or not mailbox.enabled:
            return "the mailbox was removed or is disabled"
        return "" if has_it else "the mailbox has the address no more"

    async def _mail(self, connection: Connection, notice: Notice, zone: ZoneInfo, to: str, sender: Sender) -> bytes:
        if notice.digest_id is None:
            return dropped_mail(notice.mailbox, to=to, sender=sender, message_id=notice.mail_message_id)
        missed, count = await digests.missed(connection, notice.digest_id, MOST_IN_DIGEST)
        return digest_mail(notice.mailbox, missed, count, zone=zone, to=to, sender=sender, message_id=notice.mail_message_id)

    async def _attempt(self, attempt: _Attempt) -> None:
        notice = attempt.notice

        async def expose(_accepted: Sequence[str]) -> None:
            try:
                async with self._pool.acquire() as connection:
                    ours = await store.expose(connection, notice, self._retries.unknown_pause)
            except DatabaseFailed as error:
                raise Unavailable(f"the mail was not sent: the ledger cannot be written ({error.detail})") from error
            if not ours:
                raise Overtaken

        try:
            (outcome,) = await self._transport.send([attempt.to], attempt.mail, sender=attempt.sender, before_content=expose)
        except Overtaken:
            log.warning("notice_attempt_overtaken", **_facts(notice))
            return
        except Unavailable as error:
            outcome = Outcome(notice.address, RecipientState.PENDING, None, error.detail)

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._write(connection, notice, outcome)

        await insist(write, self._patience, self._repeats)

    async def _write(self, connection: Connection, notice: Notice, outcome: Outcome) -> None:
        """Write the result of the attempt. A second call changes nothing."""
        unknown = outcome.state is RecipientState.UNKNOWN
        unknowns = notice.unknowns + unknown
        state = _FINAL.get(outcome.state)
        if state is None and unknown and unknowns > self._retries.unknown_tries:
            state = NoticeState.UNKNOWN
        elif state is None and not unknown and self._retries.over(notice.age, notice.attempts):
            state = NoticeState.FAILED
        if state is not None:
            await self._settle(connection, notice, state, outcome.reply, code=outcome.code, unknown=unknown)
            return
        # An earlier answer that was lost is still waited for as long.
        delay = max(self._retries.delay(notice.attempts), self._retries.unknown_pause if unknowns else 0.0)
        await store.postpone(connection, notice.id, delay, code=outcome.code, detail=outcome.reply, unknowns=unknowns)
        key = job_key(notice.id, notice.attempts)
        await self._jobs.enqueue(connection, NOTICE, str(notice.id), dedupe_key=key, delay=delay)
        self._repeats.tell("notice_postponed", outcome.reply, **_facts(notice))

    @staticmethod
    async def _settle(
        connection: Connection, notice: Notice, state: NoticeState, detail: str, *, code: int | None = None, unknown: bool = False
    ) -> None:
        unknowns = notice.unknowns + unknown
        await store.settle(connection, notice.id, state, code=code, detail=detail, unknowns=unknowns)
        log.info("notice_settled", **_facts(notice), state=str(state))


def _facts(notice: Notice) -> dict[str, str | int]:
    return {
        "notice": str(notice.id), "kind": str(notice.kind), "mailbox": str(notice.mailbox), "attempt": notice.attempts,
    }  # fmt: skip
