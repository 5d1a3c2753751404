"""Removes a message from the switch: its row, then its file, then MWI. Each step is noted before the next one.

mod_voicemail's ``vm_delete`` deletes a call's uuid in every mailbox, also copies that arrive while the command waits behind a
reload. So exactly one row is deleted, by one statement, and nothing here sends that command.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
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
from app.messages.phone_updates import PhoneUpdates, mailbox_of
from app.messages.reasons import Kept, Pace, Reason, TooEarly
from app.messages.removal_store import RemovalState, RemovalTask
from app.recordings.storage import RecordingStorage
from app.switch.switch import Switch
from app.switch.tables import changes
from app.switch.tables import messages as rows
from app.switch.tables.changes import WholeRow
from app.switch.tables.messages import RowRemoval
from app.switch.tables.model import DELETED, MessageRow

log = structlog.get_logger(__name__)

REMOVE = "remove"  # the jobs that remove messages; the payload is a removal's id
_GONE = "the message is gone"
SHARED = "its file is another message's too, and stays"
_UNLESS_DONE = 10.0  # seconds; until then the process that was asked does it
_LOOKS, _LOOK = 100, 0.05  # seconds between two looks at what another process does
_CHANGES = 5  # how often a row may change while it is being deleted
_LONGEST_MWI_PAUSE = 30.0  # seconds; the phones must not wait half an hour for a switch that is back


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
        phones: PhoneUpdates | None = None,
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
        pace: Pace = Pace(),  # noqa: B008 - likewise
    ) -> None:
        self._pool, self._switch_pool = pool, switch.pool
        self._jobs, self._claims = jobs, claims
        self._mwi, self._storage, self._phones = switch.mwi, storage, phones or PhoneUpdates(pool, switch.mwi)
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

    async def ask_now(self, connection: Connection, message_id: UUID, reason: str) -> UUID:
        """Write down, in the connection's transaction, that a message is to go; then call ``delete_now``. The removal's id.

        If the process dies in between, a job does it.
        """
        removal_id = await removals.ask_now(connection, message_id, reason)
        key = job_key(removal_id, 0)
        await self._jobs.enqueue(connection, REMOVE, str(removal_id), dedupe_key=key, delay=_UNLESS_DONE)
        return removal_id

    async def delete_now(self, message_id: UUID, removal_id: UUID, reason: str) -> None:
        """Delete the row now; the file may follow.

        Raises ``NotFound`` if the row is gone, and ``Unavailable`` if it cannot be deleted now. Then it stays, unless the
        statement was cut off: then a job goes on.
        """
        for _ in range(_LOOKS):
            await self.remove(str(removal_id))
            async with self._pool.acquire() as connection:
                state, detail = await removals.state(connection, removal_id)
                if state is RemovalState.KEPT:
                    raise NotFound("there is no such message")
                if state not in (RemovalState.ASKED, RemovalState.DELETING):
                    return
                if detail and state is RemovalState.DELETING:
                    raise Unavailable(f"the message is not deleted yet: {detail}")
                if detail and await removals.cancel(connection, removal_id, detail):
                    await self._drop_copy(message_id, reason)
                    raise Unavailable(f"the message was not deleted: {detail}")
            await asyncio.sleep(_LOOK)  # another process works on it
        raise Unavailable("the message is being deleted")

    @asynccontextmanager
    async def stopped(self, message_id: UUID, reason: str) -> AsyncIterator[bool]:
        """Keep a message's removal from going on for the block; False if it is under way in this moment."""
        async with self._pool.acquire() as connection:
            found = await removals.of_reason(connection, message_id, reason)
        if found is None:
            yield True
            return
        async with self._claims.hold(found) as ours:
            yield ours

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
            await self._drop_copy(task.message_id, task.reason)
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
            copied: list[WholeRow] = []
            if row is not None:
                await self._check(task, row)
                copied = await self._copy(task, row)
                reached.append(task := await self._begin_deleting(task))
            reached.append(task := await self._delete_row(task, row, copied))
            self._phones.soon(self._told_later(task))
        if task.state is RemovalState.ROW_GONE:
            await self._let_settle(task)
            reached.append(task := await self._advance(task, RemovalState.FILE_GONE, await self._remove_file(task)))
        if self._told_later(task):
            await self._settle(task, RemovalState.DELETED, task.detail)
            return
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

    async def _copy(self, task: RemovalTask, row: MessageRow) -> list[WholeRow]:
        """Keep the message aside if its reason wants that. Raises ``Kept`` if it is gone."""
        aside = self._reasons[task.reason].aside
        if aside is None:
            return []
        if copied := await aside.put(task.message_id, row):
            return copied
        raise Kept(_GONE)

    async def _begin_deleting(self, task: RemovalTask) -> RemovalTask:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._phones.ask(connection, self._told_later(task))
            await removals.advance(connection, task.id, RemovalState.DELETING, "")
        return replace(task, state=RemovalState.DELETING, detail="")

    def _told_later(self, task: RemovalTask) -> set[MailboxAddress]:
        """The mailbox whose phones are told by ``PhoneUpdates``, once for many removals; empty if this removal tells them."""
        reason, address = self._reasons.get(task.reason), mailbox_of(task.domain, task.username)
        return {address} if reason is not None and reason.at_once and address is not None else set()

    async def _let_settle(self, task: RemovalTask) -> None:
        """If the row went at once, leave its file until the switch has made its copies. Raises ``TooEarly``."""
        reason = self._reasons.get(task.reason)
        if reason is None or not reason.at_once:
            return  # it was waited for before the row was deleted
        left = self._pace.settling - task.message_age
        if left <= 0 and task.message_age < self._pace.settling_with_copies and task.uuid:
            async with self._switch_pool.acquire() as connection:
                if await rows.with_uuids(connection, [task.uuid]):
                    left = self._pace.settling_with_copies - task.message_age
        if left > 0:
            raise TooEarly("copies of the call may still be made from its file", left)

    async def _vanished(self, task: RemovalTask) -> str:
        """A remark on a row that went before this service touched it."""
        reason = self._reasons.get(task.reason)
        if reason is not None and reason.at_once:
            raise Kept(_GONE)
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
        key = self._storage.paths.relative(row.file_path) if reason.at_once else self._storage.key(row.file_path)
        if key is not None and (obstacle := await asyncio.to_thread(self._storage.obstacle, key)):
            raise Unavailable(obstacle)
        if reason.at_once:
            if row.flags == DELETED:
                raise Kept(_GONE)  # a phone deletes it
            return
        if task.message_age < self._pace.settling_with_copies and await self._has_copies(row):
            left = self._pace.settling_with_copies - task.message_age
            raise TooEarly("further copies of the call may still be made from its file", left)

    async def _has_copies(self, row: MessageRow) -> bool:
        if not row.uuid:
            return False
        async with self._switch_pool.acquire() as connection:
            return any(other.key != row.key for other in await rows.with_uuids(connection, [row.uuid]))

    async def _delete_row(self, task: RemovalTask, row: MessageRow | None, copied: list[WholeRow]) -> RemovalTask:
        """Delete exactly this row. If it is gone already, this service deleted it before a crash, or a phone deleted it now."""
        shares_file = False
        if row is not None:
            only_unheard = self._reasons[task.reason].only_unheard
            done = await self._take_row(task, row, copied)
            shares_file = done.shares_file
            if not done.gone and (row := await self._row(task)) is not None:
                if only_unheard and (done.heard or _heard(row)):
                    raise Kept("somebody listened to it or saved it on the phone")
                raise Unavailable("the message was changed while it was being deleted")
        state, detail = (RemovalState.FILE_GONE, SHARED) if shares_file else (RemovalState.ROW_GONE, "")
        reason = self._reasons.get(task.reason)
        async with self._pool.acquire() as connection, connection.transaction():
            await removals.advance(connection, task.id, state, detail)
            if reason is not None and reason.aside is not None:
                await reason.aside.kept(connection, task.message_id)
        return replace(task, state=state, detail=detail)

    async def _take_row(self, task: RemovalTask, row: MessageRow, copied: list[WholeRow]) -> RowRemoval:
        reason = self._reasons[task.reason]
        for _ in range(_CHANGES):
            async with self._switch_pool.acquire() as connection:
                if reason.aside is None:
                    return await rows.remove(connection, row, only_unheard=reason.only_unheard)
                done = await changes.take(connection, row, copied)
            if done.gone:
                break
            copied = await self._copy(task, row)  # a phone changed it after it was copied
        return done

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

    def _has_copy(self, task: RemovalTask) -> bool:
        reason = self._reasons.get(task.reason)
        return reason is not None and reason.aside is not None

    async def _drop_copy(self, message_id: UUID, reason: str) -> None:
        """Forget the copy of a message whose row this removal did not delete."""
        if (known := self._reasons.get(reason)) and known.aside:
            await known.aside.dropped(message_id)

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
        # A copy may be all that is left of a message, so a deletion with one is never given up half way.
        half_way = task.state is RemovalState.DELETING and self._has_copy(task)
        if self._retries.over(task.age, task.tries) and not half_way:
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
