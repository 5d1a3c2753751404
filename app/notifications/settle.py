"""Deletes the recording of a mail that every recipient's server accepted. Deleting is last, and any doubt keeps it."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.database.jobs import Jobs
from app.database.pool import UNAVAILABLE, Pool
from app.errors import Invalid, NotFound, SwitchRefused, Unavailable
from app.mailboxes import store as mailboxes
from app.messages import store as rows
from app.messages.model import MessageRow
from app.notifications import ledger
from app.notifications.claims import Claims
from app.notifications.mailer import kept_for
from app.notifications.model import (
    SETTLE,
    Notification,
    NotificationState,
    RecipientState,
    RecordingState,
    Retries,
    job_key,
)
from app.notifications.recordings import Recordings
from app.notifications.wording import cleaned_reply
from app.switch.commands import Command, vm_delete
from app.switch.mwi import MessageWaiting, Switch

log = structlog.get_logger(__name__)

_SEEN_GONE = 2.0  # seconds for a row to go once the switch has said it deleted it
_POLL = 0.05


class Kept(Exception):
    """A doubt: the recording stays. The text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The one message that is to go."""

    address: MailboxAddress
    row: MessageRow
    shares_file: bool  # another message names the same file


class Settler:
    """Deletes one message at a time: with mod_voicemail's own command wherever that deletes nothing else."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch_pool: Pool,
        jobs: Jobs,
        claims: Claims,
        switch: Switch,
        recordings: Recordings,
        profile: str = "default",
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
    ) -> None:
        self._pool, self._switch_pool = pool, switch_pool
        self._jobs, self._claims = jobs, claims
        self._switch, self._lamp = switch, MessageWaiting(switch, profile)
        self._recordings, self._profile, self._retries = recordings, profile, retries

    async def settle(self, notification_id: str) -> None:
        """Make one try to delete the recording, if it is due. The handler of ``settle`` jobs.

        Raises what the database raises when it is away; the sweep finds the notification again. All else stands in the ledger.
        """
        found = UUID(notification_id)
        async with self._claims.hold(found) as ours:
            if not ours:
                return
            async with self._pool.acquire() as connection:
                notification = await ledger.begin_deleting(connection, found, self._retries)
            if notification is not None:
                await self._try(notification)

    async def _try(self, notification: Notification) -> None:
        try:
            detail = await self._delete(notification)
        except Kept as doubt:
            await self._end(notification, RecordingState.KEPT, str(doubt))
        except (Unavailable, SwitchRefused, NotFound) as error:
            await self._later(notification, error.detail)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            await self._later(notification, f"{type(error).__name__} while deleting the message")
        else:
            await self._end(notification, RecordingState.DELETED, detail)

    async def _delete(self, notification: Notification) -> str:
        """Delete the message; a remark for the ledger. Raises ``Kept`` for any doubt, and what may pass for another try."""
        await self._check(notification)
        target = await self._target(notification)
        if target is None:
            return "the switch had deleted it already"
        command = await self._command_for(target)
        if command is None:
            return await self._delete_row(target)
        return await self._delete_by(command, target)

    async def _check(self, notification: Notification) -> None:
        """Read again all that speaks for deleting."""
        async with self._pool.acquire() as connection:
            recipients = await ledger.recipients(connection, notification.id)
            mailbox = await mailboxes.find(connection, notification.domain, notification.extension)
        accepted = recipients and all(recipient.state is RecipientState.ACCEPTED for recipient in recipients)
        if notification.state is not NotificationState.SENT or not accepted:
            raise Kept("the mail was not accepted for every recipient")
        if reason := kept_for(notification, mailbox):
            raise Kept(reason)

    async def _target(self, notification: Notification) -> Target | None:
        """The message as the switch has it now; None where it has gone with its file."""
        source = notification.source
        async with self._switch_pool.acquire() as connection:
            row = await rows.with_key(connection, source.key, uuid=source.uuid, username=source.username)
        if row is None:
            if await asyncio.to_thread(self._recordings.exists, source.file_path):
                raise Kept("the switch no longer lists the message; its file was left alone")
            return None
        if (row.username, row.domain) != (notification.extension, notification.domain):
            raise Kept("the message is in another mailbox")
        if row.flags == "save" or row.read_epoch > 0:
            raise Kept("somebody listened to it or saved it on the phone")
        async with self._switch_pool.acquire() as connection:
            shares = await rows.count_with_file(connection, row.file_path) > 1
        address = MailboxAddress(Extension(notification.extension), Domain(notification.domain))
        return Target(address, row, shares)

    async def _command_for(self, target: Target) -> Command | None:
        """The command that deletes this message and no other; None where there is none.

        ``vm_delete`` deletes every row of its uuid, in all mailboxes, and the file of each.
        """
        async with self._switch_pool.acquire() as connection:
            same = await rows.with_uuids(connection, [target.row.uuid])
        if len(same) != 1 or target.shares_file:
            return None
        try:
            return vm_delete(target.address, target.row.uuid, profile=self._profile)
        except Invalid:
            return None

    async def _delete_by(self, command: Command, target: Target) -> str:
        reply = await self._switch.command(command)
        if not reply.done:
            raise SwitchRefused(f"the switch refused to delete the message: {cleaned_reply(reply.text)}")
        # It says +OK whatever happened.
        deadline = asyncio.get_running_loop().time() + _SEEN_GONE
        while await self._listed(target.row):
            if asyncio.get_running_loop().time() > deadline:
                raise SwitchRefused("the switch said it deleted the message, and still lists it")
            await asyncio.sleep(_POLL)
        return await self._remove_leftover(target.row.file_path)

    async def _listed(self, row: MessageRow) -> bool:
        async with self._switch_pool.acquire() as connection:
            return await rows.with_key(connection, row.key, uuid=row.uuid, username=row.username) is not None

    async def _remove_leftover(self, file_path: str) -> str:
        """Remove the file where the switch did not, as with one it may not write to."""
        if not await asyncio.to_thread(self._recordings.exists, file_path):
            return ""
        async with self._switch_pool.acquire() as connection:
            if await rows.count_with_file(connection, file_path):
                return "its file is another message's too, and stays"
        try:
            await asyncio.to_thread(self._recordings.remove, file_path)
        except (NotFound, OSError) as error:
            return f"the message is gone, but its file could not be removed: {_why(error)}"
        return "this service removed the file that the switch had left"

    async def _delete_row(self, target: Target) -> str:
        """Delete exactly this row in the switch's table, and its file if no other row has it; then tell the phones.

        The file goes first: what is interrupted in between is found again by its row.
        """
        await self._lamp.refresh(target.address)  # a switch that is away is found out now, and not after the deed
        async with self._switch_pool.acquire() as connection:
            alone = await rows.count_with_file(connection, target.row.file_path) == 1
            if alone:
                await asyncio.to_thread(self._recordings.remove, target.row.file_path)
            await rows.delete(connection, target.row)
        try:
            await self._lamp.refresh(target.address)
        except (Unavailable, SwitchRefused):
            log.warning("message_waiting_not_sent", mailbox=str(target.address))
        return "" if alone else "its file is another message's too, and stays"

    async def _end(self, notification: Notification, state: RecordingState, detail: str) -> None:
        async with self._pool.acquire() as connection:
            await ledger.end_deleting(connection, notification.id, state, detail)
        log.info("recording_settled", notification=str(notification.id), state=str(state), detail=detail)

    async def _later(self, notification: Notification, reason: str) -> None:
        tries = notification.recording_tries
        async with self._pool.acquire() as connection, connection.transaction():
            if self._retries.over(await ledger.age(connection, notification.id), tries):
                detail = f"given up after {tries} tries: {reason}"
                await ledger.end_deleting(connection, notification.id, RecordingState.KEPT, detail)
            else:
                delay = self._retries.delay(tries)
                await ledger.postpone_deleting(connection, notification.id, reason, delay)
                key = job_key(notification.id, tries)
                await self._jobs.enqueue(connection, SETTLE, str(notification.id), dedupe_key=key, delay=delay)
        log.warning("recording_deletion_postponed", notification=str(notification.id), reason=reason)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
