"""Delivers queued notifications: one attempt for each job, with its result in the ledger. It deletes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.domains import store as domains
from app.domains.model import DomainSettings
from app.errors import DatabaseFailed, NotFound, Unavailable, file_and_reason
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.jobs.repeats import Repeats
from app.jobs.retries import job_key
from app.mailboxes import store as mailboxes
from app.messages.removal import Removal
from app.notifications import store as ledger
from app.notifications.after_mail import kept_for
from app.notifications.delivery import About, Delivery, Overtaken, Result, Transport
from app.notifications.insist import insist
from app.notifications.mail.compose import Audio, Composer, Letter
from app.notifications.mail.sender import Sender
from app.notifications.model import (
    AFTER_MAIL,
    NOTIFY,
    MailRetries,
    Notification,
    NotificationState,
    Outcome,
    Recipient,
    RecipientState,
)
from app.notifications.outcomes import MailOutcomes
from app.notifications.recordings import RecordingEmpty, Recordings, RecordingUnreadable
from app.notifications.slots import Slots
from app.notifications.zone import zone_of
from app.switch.tables import messages as rows
from app.switch.tables.model import DELETED, MessageRow
from app.text import ascii_address

log = structlog.get_logger(__name__)

_TRIES_WHEN_EMPTY = 5  # a little more than a minute: by then a recording that is empty, or cannot be read, stays so
_DELETED = "the message was deleted before it was sent"
_UNLISTED = "the switch did not list the message any more when its mail went, although the recording was there"
_NO_ANSWER = "the mail was sent, and the mail server did not say whether it accepted it; it is sent again after a pause"
_TOO_LARGE = 552  # RFC 1870: also for a full mailbox, which may have room for a mail without its recording
_TOO_LARGE_NOTE = "The recording is not attached: the mail server takes no mail of this size."
_NOT_ALLOWED = "mails of this domain may not go to this address (mail_domains)"
_EMPTY = "There is no recording to attach: the switch left an empty file."


class Mailer:
    """Sends mails; one instance a process, many processes at once."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch_pool: Pool,
        jobs: Jobs,
        claims: Claims,
        transport: Transport,
        composer: Composer,
        recordings: Recordings,
        removal: Removal,
        zone: ZoneInfo,
        mail_from: str,
        retries: MailRetries = MailRetries(),  # noqa: B008 - it is frozen
        patience: float = 60.0,
        slots: Slots | None = None,
        second_look: float = 1.0,
    ) -> None:
        """``zone`` and ``mail_from``: of domains that have none of their own.

        ``patience``: seconds an outcome waits for a database that is away.
        ``slots`` lets slow deliveries go on by themselves. ``second_look``: seconds until a row that is gone is looked for again.
        """
        self._pool, self._switch_pool = pool, switch_pool
        self._jobs, self._claims = jobs, claims
        self._transport, self._composer, self._recordings = transport, composer, recordings
        self._removal = removal
        self._zone, self._mail_from, self._retries, self._patience = zone, mail_from, retries, patience
        self._slots = slots or Slots(slow=0)
        self._second_look = second_look
        self._repeats = Repeats()
        self.outcomes = MailOutcomes()

    async def deliver(self, notification_id: str) -> None:
        """Make one attempt, if it is due and no other process makes one. The handler of ``notify`` jobs.

        An attempt that takes long goes on after the return. Raises what the database raises when it is away; the sweep finds the
        notification again. All else stands in the ledger.
        """
        await self._slots.run(self._deliver(UUID(notification_id)))

    async def close(self) -> None:
        """End the attempts that go on by themselves."""
        await self._slots.close()

    async def _deliver(self, notification_id: UUID) -> None:
        async with self._claims.hold(notification_id) as ours:
            if not ours:
                return
            try:
                if delivery := await self._begin(notification_id):
                    await self._attempt(delivery)
                self.outcomes.committed(notification_id)
            finally:
                self.outcomes.dropped(notification_id)

    async def _begin(self, notification_id: UUID) -> Delivery | None:
        """Count the attempt and bring the recipients in line with the mailbox; None if there is nothing to send."""
        async with self._pool.acquire() as connection, connection.transaction():
            notification = await ledger.begin(connection, notification_id, self._retries)
            if notification is None:
                return None
            mailbox = await mailboxes.find(connection, notification.domain, notification.extension)
            if mailbox is None or mailbox.id != notification.mailbox_id:
                await self._cancel(connection, notification, "the mailbox was removed")
                return None
            if not mailbox.enabled:
                await self._cancel(connection, notification, "the mailbox is disabled")
                return None
            await ledger.align(connection, notification.id, mailbox.mail_to)
            recipients = tuple(await ledger.recipients(connection, notification.id))
            if not recipients:
                await self._cancel(connection, notification, "the mailbox has no mail address any more")
                return None
            hosted = await domains.get(connection, mailbox.address.domain)
            settings = hosted.settings if hosted else DomainSettings()
            sender = Sender.of_domain(settings, self._mail_from)
            return Delivery(notification, mailbox, settings, sender, recipients, self._retries.unknown_tries)

    async def _attempt(self, delivery: Delivery) -> None:
        notification = delivery.notification
        try:
            result = await self._result(delivery)
        except DatabaseFailed as error:
            result = Result(trouble=f"the switch's database cannot be read: {error.detail}")
        except (NotFound, Unavailable) as error:
            result = Result(trouble=error.detail)
        except OSError as error:
            result = Result(trouble=file_and_reason(error))
        except Overtaken:
            log.warning("mail_attempt_overtaken", **_facts(notification))
            return

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                if result.cancelled:
                    await self._cancel(connection, notification, result.cancelled)
                else:
                    await self._write(connection, notification, result)

        await insist(write, self._patience, self._repeats)

    async def _result(self, delivery: Delivery) -> Result:
        """Send the mail to the remaining recipients, if the message still exists."""
        if not delivery.pending:
            return Result()
        row = await self._row(delivery.notification)
        if row is None:
            return await self._without_row(delivery)
        if row.flags == DELETED:
            return Result(cancelled=_DELETED)
        audio = await self._audio(delivery.notification)
        return await self._send_any_size(delivery, _of_row(row), audio)

    async def _without_row(self, delivery: Delivery) -> Result:
        """The switch does not list the message any more: deleted with its file, or lost by a table that was made anew.

        Whoever deletes a message removes the row and the file, and for a moment only one of them is there.
        """
        notification = delivery.notification
        if not await asyncio.to_thread(self._recordings.gone, notification.source.file_path):
            await asyncio.sleep(self._second_look)
            if await self._row(notification) is not None:
                raise Unavailable("the switch lists the message again")
        if await asyncio.to_thread(self._recordings.gone, notification.source.file_path):
            return Result(cancelled=_DELETED)
        audio = await self._audio(notification)
        source = notification.source
        about = About(source.caller_name, source.caller_number, source.created_epoch, source.duration, listed=False)
        log.warning("mail_of_unlisted_message", **_facts(notification))
        result = await self._send_any_size(delivery, about, audio)
        return replace(result, kept_because=result.kept_because or _UNLISTED)

    async def _row(self, notification: Notification) -> MessageRow | None:
        """The switch's row. Raises ``Unavailable`` if its table is not there, which says nothing about the row."""
        source = notification.source
        async with self._switch_pool.acquire() as connection:
            return await rows.with_key(connection, source.key, uuid=source.uuid, username=source.username)

    async def _audio(self, notification: Notification) -> Audio:
        try:
            return await asyncio.to_thread(self._recordings.load, notification.source.file_path)
        except RecordingEmpty:
            if notification.attempts < _TRIES_WHEN_EMPTY:
                raise
            return Audio("", None, _EMPTY)
        except RecordingUnreadable as error:
            if notification.attempts < _TRIES_WHEN_EMPTY:
                raise
            return Audio("", None, f"There is no recording to attach: {error.detail}.")

    async def _send_any_size(self, delivery: Delivery, about: About, audio: Audio) -> Result:
        """Send the mail; to those whose server finds it too large, at once without the recording."""
        outcomes = await self._send(delivery, about, audio, delivery.pending)
        refused = [outcome.address for outcome in outcomes if outcome.code == _TOO_LARGE and audio.content is not None]
        if not refused:
            return Result(outcomes, kept_because=audio.missing)
        without = Audio(audio.name, None, _TOO_LARGE_NOTE)
        again = await self._send(delivery, about, without, refused)
        return Result([*(one for one in outcomes if one.address not in refused), *again], kept_because=without.missing)

    async def _send(self, delivery: Delivery, about: About, audio: Audio, addresses: Sequence[str]) -> list[Outcome]:
        usable: dict[str, str] = {}
        unusable: list[Outcome] = []
        for address in addresses:
            if not delivery.domain.allows_mail_to(address):
                unusable.append(Outcome(address, RecipientState.REFUSED, None, _NOT_ALLOWED))
            elif plain := ascii_address(address):
                usable[address] = plain
            else:
                unusable.append(Outcome(address, RecipientState.REFUSED, None, "not an address that this service can mail to"))
        if not usable:
            return unusable
        mail = await asyncio.to_thread(self._composer.compose, self._letter(delivery, about), audio)

        async def expose(accepted: Sequence[str]) -> None:
            await self._expose(delivery.notification, [address for address, plain in usable.items() if plain in accepted])

        to, sender = list(usable.values()), delivery.sender.address
        sent = await self._transport.send(to, mail, sender=sender, before_content=expose)
        answers = {outcome.address: outcome for outcome in sent}
        given = [(address, answers[plain]) for address, plain in usable.items()]
        return [*unusable, *(Outcome(address, answer.state, answer.code, answer.reply) for address, answer in given)]

    async def _expose(self, notification: Notification, addresses: Sequence[str]) -> None:
        try:
            async with self._pool.acquire() as connection:
                ours = await ledger.expose(connection, notification, addresses, self._retries)
        except DatabaseFailed as error:
            raise Unavailable(f"the mail was not sent: the ledger cannot be written ({error.detail})") from error
        if not ours:
            raise Overtaken

    def _letter(self, delivery: Delivery, about: About) -> Letter:
        notification, mailbox = delivery.notification, delivery.mailbox
        return Letter(
            message_id=notification.mail_message_id,
            recipients=_in_header(delivery),
            caller_name=about.caller_name,
            caller_number=about.caller_number,
            created_epoch=about.created_epoch,
            duration=about.duration,
            mailbox=MailboxAddress(Extension(notification.extension), Domain(notification.domain)),
            description=mailbox.description,
            zone=zone_of(mailbox.time_zone or delivery.domain.time_zone, self._zone),
            sender=delivery.sender,
            deleted_afterwards=about.listed and not (notification.local_after_email or mailbox.local_after_email),
            listed=about.listed,
        )

    async def _write(self, connection: Connection, notification: Notification, result: Result) -> None:
        """Write the result of the attempt and its consequences in one transaction. A second call changes nothing."""
        kept_because = result.kept_because or notification.recording_detail
        unknowns = notification.unknowns
        if result.outcomes:
            unknowns += any(outcome.state is RecipientState.UNKNOWN for outcome in result.outcomes)
            await ledger.record(connection, notification.id, result.outcomes)
            await ledger.count_unknowns(connection, notification.id, unknowns)
        recipients = await ledger.recipients(connection, notification.id)
        again = unknowns <= self._retries.unknown_tries and any(_is_unknown(recipient) for recipient in recipients)
        if result.trouble or any(recipient.state is RecipientState.PENDING for recipient in recipients):
            reason = result.trouble or _pending(recipients)
            await self._postpone(connection, notification, reason, kept_because, again and not result.trouble)
            self._tell_postponed(notification, result, recipients)
            return
        if again:
            await self._wait_for_repeat(connection, notification, kept_because, unknowns)
            return
        if any(recipient.state is not RecipientState.ACCEPTED for recipient in recipients):
            await self._fail(connection, notification, _unaccepted(recipients), kept_because)
            return
        mailbox = await mailboxes.find(connection, notification.domain, notification.extension)
        kept_because = kept_because or kept_for(notification, mailbox)
        await ledger.close(connection, notification.id, NotificationState.SENT, "", recording_detail=kept_because)
        if not kept_because:
            await self._removal.ask(connection, notification.message_id, AFTER_MAIL)
        self._repeats.over("mail_server_away", now="mail_server_back")
        self.outcomes.note(notification.id, NotificationState.SENT.value)
        log.info("mail_sent", **_facts(notification), recipients=len(recipients), removal_asked=not kept_because)

    async def _postpone(
        self, connection: Connection, notification: Notification, reason: str, kept_because: str, after_pause: bool
    ) -> None:
        age = await ledger.age(connection, notification.id)
        if self._retries.over(age, notification.attempts):
            detail = f"given up after {notification.attempts} attempts: {reason}"
            await self._fail(connection, notification, detail, kept_because)
            return
        delay = self._retries.delay(notification.attempts)
        if after_pause:
            delay = max(delay, self._retries.unknown_pause)
        await self._queue_again(connection, notification, reason, delay, kept_because)

    def _tell_postponed(self, notification: Notification, result: Result, recipients: Sequence[Recipient]) -> None:
        """A mail server that is away holds up every mail, and a full one too: one line for all of them."""
        waiting = [recipient for recipient in recipients if recipient.state is RecipientState.PENDING]
        if result.trouble or not waiting:
            self._repeats.tell("mail_postponed", result.trouble, **_facts(notification))
        elif waiting[0].code is None:
            self._repeats.tell("mail_server_away", waiting[0].reply, **_facts(notification))
        else:
            reply = f"{waiting[0].code} {waiting[0].reply}"
            self._repeats.tell("mail_postponed", reply, **_facts(notification))

    async def _wait_for_repeat(
        self, connection: Connection, notification: Notification, kept_because: str, unknowns: int
    ) -> None:
        pause = self._retries.unknown_pause
        await self._queue_again(connection, notification, _NO_ANSWER, pause, kept_because)
        left = self._retries.unknown_tries + 1 - unknowns
        log.warning("mail_acceptance_unknown", **_facts(notification), seconds=pause, tries_left=left)

    async def _queue_again(
        self, connection: Connection, notification: Notification, reason: str, delay: float, kept_because: str
    ) -> None:
        await ledger.postpone(connection, notification.id, reason, delay, recording_detail=kept_because)
        key = job_key(notification.id, notification.attempts)
        await self._jobs.enqueue(connection, NOTIFY, str(notification.id), dedupe_key=key, delay=delay)
        self.outcomes.note(notification.id, "postponed")

    async def _fail(self, connection: Connection, notification: Notification, detail: str, kept_because: str) -> None:
        """Settle a mail that not everybody accepted: ``unknown`` if that is all that is wrong, else ``failed``."""
        recipients = await ledger.recipients(connection, notification.id)
        unsettled = {recipient.state for recipient in recipients} - {RecipientState.ACCEPTED}
        state = NotificationState.UNKNOWN if unsettled == {RecipientState.UNKNOWN} else NotificationState.FAILED
        kept_because = kept_because or "the mail was not accepted for every recipient"
        await ledger.close(connection, notification.id, state, detail, recording_detail=kept_because)
        self.outcomes.note(notification.id, state.value)
        log.error("mail_failed" if state is NotificationState.FAILED else "mail_left_unknown", **_facts(notification))

    async def _cancel(self, connection: Connection, notification: Notification, reason: str) -> None:
        state, detail = NotificationState.CANCELLED, reason
        if any(_is_unknown(recipient) for recipient in await ledger.recipients(connection, notification.id)):
            state, detail = NotificationState.UNKNOWN, f"not sent again: {reason}; whether the mail had arrived is not known"
        kept_because = "left alone: the mail was cancelled"
        await ledger.close(connection, notification.id, state, detail, recording_detail=kept_because)
        self.outcomes.note(notification.id, state.value)
        log.info("mail_cancelled", **_facts(notification), reason=reason)


def _in_header(delivery: Delivery) -> list[str]:
    allowed = [recipient.address for recipient in delivery.recipients if delivery.domain.allows_mail_to(recipient.address)]
    return [plain for address in allowed if (plain := ascii_address(address))]


def _pending(recipients: Sequence[Recipient]) -> str:
    return _told(next(recipient for recipient in recipients if recipient.state is RecipientState.PENDING))


def _unaccepted(recipients: Sequence[Recipient]) -> str:
    return "; ".join(_told(recipient) for recipient in recipients if recipient.state is not RecipientState.ACCEPTED)


def _is_unknown(recipient: Recipient) -> bool:
    return recipient.state is RecipientState.UNKNOWN


def _of_row(row: MessageRow) -> About:
    return About(row.caller_name, row.caller_number, row.created_epoch, row.duration)


def _told(recipient: Recipient) -> str:
    code = "" if recipient.code is None else f"{recipient.code} "
    return f"{recipient.address}: {code}{recipient.reply}"


def _facts(notification: Notification) -> dict[str, str | int]:
    return {
        "notification": str(notification.id),
        "mailbox": f"{notification.extension}@{notification.domain}",
        "attempt": notification.attempts,
    }
