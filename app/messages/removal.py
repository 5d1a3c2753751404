"""Removes a message from the switch: its row, then its file, then MWI. Each step is noted before the next one.

mod_voicemail's ``vm_delete`` deletes a call's uuid in every mailbox, also copies that arrive while the command waits behind a
reload. So exactly one row is deleted, by one statement, and nothing here sends that command.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias
from uuid import UUID

import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import DatabaseFailed, Invalid, NotFound, SwitchRefused, Unavailable, file_and_reason
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.jobs.repeats import Repeats
from app.jobs.retries import Retries, job_key
from app.messages import removal_store as removals
from app.messages.removal_store import RemovalState, RemovalTask
from app.recordings.storage import RecordingStorage
from app.switch.switch import Switch
from app.switch.tables import messages as rows
from app.switch.tables.model import MessageRow

log = structlog.get_logger(__name__)

REMOVE = "remove"  # the jobs that remove messages; the payload is a removal's id
SHARED = "its file is another message's too, and stays"
_LONGEST_MWI_PAUSE = 30.0  # seconds; the phones must not wait half an hour for a switch that is back

# Why the message must stay, read on a connection to the service's own database; "" if nothing speaks against its removal.
Guard: TypeAlias = Callable[[Connection, UUID], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason for which messages are removed."""

    name: str
    guard: Guard  # read again at the moment of removal
    only_unheard: bool  # a message that somebody listened to or saved on a phone stays


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a removal waits for what may still be under way on the switch. In seconds.

    mod_voicemail writes a message's row first; only then it sends MWI and makes the carbon copies, from this message's file.
    MWI is counted first and sent then, so a second one corrects the first if a message came in between.
    """

    settling: float = 5.0  # after the message was first seen
    settling_with_copies: float = 60.0  # if other messages have the same uuid
    tell_again: float = 2.0  # between the two MWI


class Kept(Exception):
    """There is a doubt, so the message stays. The text says why."""


class TooEarly(Exception):
    """The removal must wait for ``seconds``; the text says why."""

    def __init__(self, why: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(why)


class Removal:
    """Removes messages; one instance a process, many processes at once."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch: Switch,
        jobs: Jobs,
        claims: Claims,
        storage: RecordingStorage,
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
        pace: Pace = Pace(),
    ) -> None:
        self._pool, self._switch_pool = pool, switch.pool
        self._jobs, self._claims = jobs, claims
        self._mwi, self._storage = switch.mwi, storage
        self._retries, self._pace = retries, pace
        self._reasons: dict[str, Reason] = {}
        self._repeats = Repeats()

    def register(self, reason: Reason) -> None:
        """Let messages be removed for this reason."""
        self._reasons[reason.name] = reason

    async def ask(self, connection: Connection, message_id: UUID, reason: str) -> None:
        """Queue a message's removal in the connection's transaction. A second call changes nothing."""
        asked = await removals.ask(connection, message_id, reason, self._pace.settling)
        if asked is not None:
            removal_id, delay = asked
            key = job_key(removal_id, 0)
            await self._jobs.enqueue(connection, REMOVE, str(removal_id), dedupe_key=key, delay=delay)

    async def remove(self, removal_id: str) -> None:
        """Continue a removal, if it is due and no other process works on it. The handler of ``remove`` jobs.

        Raises what the service's own database raises when it is away; the sweep finds the removal again.
        """
        found = UUID(removal_id)
        async with self._claims.hold(found) as ours:
            if not ours:
                return
            async with self._pool.acquire() as connection:
                task = await removals.begin(connection, found, self._retries)
            if task is not None:
                await self._try(task)

    async def _try(self, task: RemovalTask) -> None:
        reached = [task]  # log the state, also if a step fails
        try:
            await self._go_on(reached)
        except Kept as doubt:
            await self._settle(reached[-1], RemovalState.KEPT, str(doubt))
        except TooEarly as early:
            await self._postpone(reached[-1], str(early), early.seconds)
        except (DatabaseFailed, Unavailable, SwitchRefused, NotFound) as error:
            await self._later(reached[-1], error.detail)
        except OSError as error:
            await self._later(reached[-1], file_and_reason(error))

    async def _go_on(self, reached: list[RemovalTask]) -> None:
        """Make the remaining steps in order."""
        task = reached[-1]
        if task.state in (RemovalState.ASKED, RemovalState.DELETING):
            row = await self._row(task)
            if row is None and task.state is RemovalState.ASKED:
                await self._settle(task, RemovalState.DELETED, await self._vanished(task))
                return
            if row is not None:
                await self._check(task, row)
                reached.append(task := await self._advance(task, RemovalState.DELETING, ""))
            reached.append(task := await self._delete_row(task, row))
        if task.state is RemovalState.ROW_GONE:
            reached.append(task := await self._advance(task, RemovalState.FILE_GONE, await self._remove_file(task)))
        await self._tell(task)
        self._repeats.over("message_waiting_postponed", now="message_waiting_sent")
        if task.state is RemovalState.FILE_GONE:
            task = await self._advance(task, RemovalState.TOLD, task.detail)
            await self._postpone(task, task.detail, self._pace.tell_again)
        else:
            await self._settle(task, RemovalState.DELETED, task.detail)

    async def _row(self, task: RemovalTask) -> MessageRow | None:
        async with self._switch_pool.acquire() as connection:
            return await rows.with_key(connection, task.key, uuid=task.uuid, username=task.username)

    async def _vanished(self, task: RemovalTask) -> str:
        """A remark on a row that went before this service touched it."""
        if await asyncio.to_thread(self._file_exists, task.file_path):
            raise Kept("the switch no longer lists the message; its file was left alone")
        return "the switch had deleted it already"

    def _file_exists(self, file_path: str) -> bool:
        key = self._storage.paths.relative(file_path)
        return key is not None and self._storage.exists(key)

    async def _check(self, task: RemovalTask, row: MessageRow) -> None:
        """Check every condition of the removal again. Raises ``Kept``, ``TooEarly`` or ``Unavailable``."""
        reason = self._reasons.get(task.reason)
        if reason is None:
            raise Unavailable(f"this version of the service does not know the reason {task.reason!r}")
        async with self._pool.acquire() as connection:
            if why := await reason.guard(connection, task.message_id):
                raise Kept(why)
        if reason.only_unheard and _heard(row):
            raise Kept("somebody listened to it or saved it on the phone")
        # Check this before the row is deleted: otherwise a file that cannot be removed would stay for ever without a row.
        if obstacle := await asyncio.to_thread(lambda: self._storage.obstacle(self._storage.key(row.file_path))):
            raise Unavailable(obstacle)
        if task.message_age < self._pace.settling_with_copies and await self._has_copies(row):
            left = self._pace.settling_with_copies - task.message_age
            raise TooEarly("further copies of the call may still be made from its file", left)

    async def _has_copies(self, row: MessageRow) -> bool:
        if not row.uuid:
            return False
        async with self._switch_pool.acquire() as connection:
            return any(other.key != row.key for other in await rows.with_uuids(connection, [row.uuid]))

    async def _delete_row(self, task: RemovalTask, row: MessageRow | None) -> RemovalTask:
        """Delete exactly this row. If it is gone already, this service deleted it before a crash, or a phone deleted it now."""
        shares_file = False
        if row is not None:
            only_unheard = self._reasons[task.reason].only_unheard
            async with self._switch_pool.acquire() as connection:
                done = await rows.remove(connection, row, only_unheard=only_unheard)
            shares_file = done.shares_file
            if not done.gone and (row := await self._row(task)) is not None:
                if only_unheard and (done.heard or _heard(row)):
                    raise Kept("somebody listened to it or saved it on the phone")
                raise Unavailable("the message was changed while it was being deleted")
        if shares_file:
            return await self._advance(task, RemovalState.FILE_GONE, SHARED)
        return await self._advance(task, RemovalState.ROW_GONE, "")

    async def _remove_file(self, task: RemovalTask) -> str:
        """Remove the file unless a row names it now; returns a remark. Raises ``Unavailable`` to try again."""
        if not task.file_path:
            return ""
        async with self._switch_pool.acquire() as connection:
            if await rows.names_file(connection, task.file_path):
                return SHARED
        try:
            await asyncio.to_thread(lambda: self._storage.remove(self._storage.key(task.file_path)))
        except NotFound as error:
            return f"its file stays: {error.detail}"
        except OSError as error:
            raise Unavailable(f"the file cannot be removed: {error.strerror or type(error).__name__}") from error
        return ""

    async def _tell(self, task: RemovalTask) -> None:
        """Send MWI to the phones. Raises ``SwitchUnavailable`` or ``SwitchRefused``."""
        try:
            address = MailboxAddress(Extension.parse(task.username), Domain.parse(task.domain))
        except Invalid:
            return  # the row's mailbox cannot exist on a phone
        await self._mwi.refresh(address)

    async def _advance(self, task: RemovalTask, state: RemovalState, detail: str) -> RemovalTask:
        async with self._pool.acquire() as connection:
            await removals.advance(connection, task.id, state, detail)
        return replace(task, state=state, detail=detail)

    async def _settle(self, task: RemovalTask, state: RemovalState, detail: str) -> None:
        async with self._pool.acquire() as connection:
            await removals.settle(connection, task.id, state, detail)
        log.info("removal_settled", **_facts(task), state=str(state), detail=detail)

    async def _later(self, task: RemovalTask, why: str) -> None:
        """Try again, or give up after days of trying."""
        if self._retries.over(task.age, task.tries):
            given_up = f"given up after {task.tries} tries: {why}"
            match task.state:
                case RemovalState.ASKED | RemovalState.DELETING:
                    await self._settle(task, RemovalState.KEPT, given_up)
                case RemovalState.ROW_GONE:
                    await self._settle(task, RemovalState.DELETED, f"the message is gone, but its file is not: {given_up}")
                case _:
                    remark = f"{task.detail}; " if task.detail else ""
                    await self._settle(task, RemovalState.DELETED, f"{remark}MWI was not sent to its phones: {given_up}")
            return
        delay = self._retries.delay(task.tries)
        if task.state in (RemovalState.FILE_GONE, RemovalState.TOLD):
            await self._postpone(task, task.detail, min(delay, _LONGEST_MWI_PAUSE))
            self._repeats.tell("message_waiting_postponed", why, **_facts(task))
        else:
            await self._postpone(task, why, delay)
            self._repeats.tell("removal_postponed", why, **_facts(task))

    async def _postpone(self, task: RemovalTask, detail: str, delay: float) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await removals.postpone(connection, task.id, detail, delay)
            key = job_key(task.id, task.tries)
            await self._jobs.enqueue(connection, REMOVE, str(task.id), dedupe_key=key, delay=delay)


def _heard(row: MessageRow) -> bool:
    return row.flags == "save" or row.read_epoch > 0


def _facts(task: RemovalTask) -> dict[str, str]:
    return {"message": str(task.message_id), "mailbox": f"{task.username}@{task.domain}", "reason_to_remove": task.reason}
