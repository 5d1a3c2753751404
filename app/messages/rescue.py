"""Inserts the rows that the switch failed to insert; without a row nobody would find the recording."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

import structlog

from app.access.audit import store as audit
from app.access.audit.model import AuditEntry
from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.errors import (
    ConstraintViolated,
    DatabaseUnavailable,
    NotFound,
    SwitchRefused,
    SwitchUnavailable,
    Unavailable,
    UnfitValue,
)
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.mailboxes import store as mailboxes
from app.messages import heard, lost
from app.messages import removal_store as removals
from app.messages.heard import Heard
from app.messages.lost import LeftMessage
from app.recordings import files
from app.recordings.storage import RecordingStorage
from app.switch.commands import user_exists
from app.switch.switch import Switch
from app.switch.tables import messages as store

log = structlog.get_logger(__name__)

EVERY = 5.0  # seconds between two looks at what is due
SETTLE = 2.0  # seconds in which a file that is complete does not change
GIVE_UP = 24 * 3600.0  # seconds after the event; then the recording is an orphan like any other
WATCHED = 3600.0  # seconds for which a row that was inserted here is watched for a late one of the switch's own
_AGAIN = 15.0  # seconds to the next try
_BATCH = 100
_UNKNOWN = (-1, -1)  # the size and time of a file that cannot be looked at now
_LONGEST_PAUSE = 30.0


class Found(Enum):
    """The state of a recording's file."""

    GONE = auto()
    NOT_READY = auto()
    READY = auto()


@dataclass(frozen=True, slots=True)
class Look:
    """A recording's file: whether its row may be inserted, and what it holds."""

    found: Found
    seconds: int | None = None
    modified: int = 0  # seconds since 1970


class Rescue:
    """Runs in the process that leads; more than one at a time would do no harm.

    Write, then act, then confirm: that the row is being inserted is noted first, and the note is kept for an hour. Killed in
    between, the next one sees by the tables whether the row came. A recording that is gone, or whose row was ever seen, is left
    alone.
    """

    def __init__(
        self,
        pool: Pool,
        switch: Switch,
        storage: RecordingStorage,
        hint: Callable[[Collection[str]], None],
        *,
        settle: float = SETTLE,
        every: float = EVERY,
    ) -> None:
        self._pool, self._switch_pool = pool, switch.pool
        self._storage, self._paths = storage, storage.paths
        self._switch, self._mwi = switch.socket, switch.mwi
        self._hint, self._settle, self._every = hint, settle, every
        self._told: set[str] = set()

    async def run(self) -> None:
        """Handle the announced messages until cancelled."""
        # Twice the usual time between two looks, so that a database that is away is not asked as often as one that is there.
        retries = Retries(first=2 * self._every, longest=_LONGEST_PAUSE)
        await Loop("rescue", self._step, every=self._every, retries=retries).run()

    async def _step(self) -> None:
        await self.step()

    async def step(self) -> int:
        """Look at everything that is due; how many rows were inserted."""
        inserted = 0
        while True:
            async with self._pool.acquire() as connection:
                due = await heard.due(connection, _BATCH)
            inserted += len(await self.look_after(due))
            if len(due) < _BATCH:
                return inserted

    async def deliver(self, left: Sequence[LeftMessage], audited: Sequence[AuditEntry]) -> list[str]:
        """Insert the rows of these recordings now, because an operator says so; the recordings for which that was done.

        One whose row was seen before gets its row back, and is not mailed again. ``audited`` goes to the audit before anything is
        inserted.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await audit.insert(connection, audited)
            await heard.put(connection, left, due_in=_AGAIN)
            asked = await heard.of_files(connection, [one.file_path for one in left])
        return await self.look_after(asked, seen_too=True)

    async def look_after(self, due: Sequence[Heard], *, seen_too: bool = False) -> list[str]:
        """Do what is to be done for these now; the recordings whose rows were inserted."""
        if not due:
            return []
        by_path = {one.left.file_path: one for one in due}
        async with self._switch_pool.acquire() as connection:
            there = {row.file_path for row in await store.with_files(connection, list(by_path))}
        relatives = {path: relative for path in by_path if (relative := self._paths.relative(path)) is not None}
        async with self._pool.acquire() as connection:
            seen = await heard.came(connection, list(relatives.values()))
            # Set the next look first, so that an exception of one does not delay the others for ever.
            await heard.postpone(connection, list(by_path), _AGAIN)
        over, missing = [], []
        for path, one in by_path.items():
            if path in there and one.inserting_for is not None:
                over += [path] if await self._follow(one) else []
            elif path not in relatives or (relatives[path] in seen and (path in there or not seen_too)):
                over.append(path)
            elif path not in there:
                missing.append(one)
        if there:
            self._hint(there)
        async with self._pool.acquire() as connection:
            await heard.forget(connection, over)
        return await self._insert_missing(missing, seen_too=seen_too)

    async def _insert_missing(self, missing: Sequence[Heard], *, seen_too: bool) -> list[str]:
        """Insert the rows that can be inserted now; the recordings for which that was done."""
        if not missing:
            return []
        looks = await self._look([one.left.file_path for one in missing])
        inserted, over = [], []
        trouble: Exception | None = None
        for one, look in zip(missing, looks, strict=True):
            path = one.left.file_path
            if look.found is Found.GONE or one.age > GIVE_UP:
                over.append(path)
            elif look.found is Found.READY and await self._is_mailbox(one.left.address, path):
                try:
                    inserted += [path] if await self._insert(one, look, seen_too=seen_too) else []
                except DatabaseUnavailable:
                    raise  # then no other row can be inserted either
                except (Unavailable, UnfitValue, ConstraintViolated) as error:
                    trouble = error  # such as a row that the table refuses: it must not delay the others
        async with self._pool.acquire() as connection:
            await heard.forget(connection, over)
        if trouble is not None:
            raise trouble
        return inserted

    async def _insert(self, one: Heard, look: Look, *, seen_too: bool) -> bool:
        """Insert a row; False if it came and went meanwhile."""
        left = one.left
        if look.seconds is not None:
            left = replace(left, duration=look.seconds)
        left = replace(left, created_epoch=left.created_epoch or look.modified)
        async with self._pool.acquire() as connection:
            await heard.inserting(connection, left.file_path)
            # Seconds may have passed since the table was asked, behind a reload for one: time enough for the row to come, to be
            # mailed and to be removed. It must not come back.
            recordings = [self._paths.relative(left.file_path) or ""]
            if await (removals.removed if seen_too else heard.came)(connection, recordings):
                return False
        async with self._switch_pool.acquire() as connection:
            done = await lost.insert(connection, left)
        if done:
            log.warning("lost_row_inserted", mailbox=str(left.address), path=left.file_path, uuid=left.uuid)
        self._hint([left.file_path])
        await self._light(one)
        return True

    async def _follow(self, one: Heard) -> bool:
        """Look after a row that was inserted here; whether that is no longer needed."""
        async with self._switch_pool.acquire() as connection:
            if await lost.reduce(connection, one.left):
                log.info("late_row_removed", mailbox=str(one.left.address), path=one.left.file_path)
        if not one.mwi_sent:
            await self._light(one)
        return (one.inserting_for or 0.0) > WATCHED

    async def _light(self, one: Heard) -> None:
        """Send MWI to the phones; if the switch is away, try later."""
        try:
            await self._mwi.refresh(one.left.address)
        except (SwitchUnavailable, SwitchRefused):
            return
        async with self._pool.acquire() as connection:
            await heard.lit(connection, one.left.file_path)

    async def _is_mailbox(self, address: MailboxAddress, file_path: str) -> bool:
        """Whether the mailbox exists, in our table or in the switch's directory."""
        async with self._pool.acquire() as connection:
            if await mailboxes.find(connection, address.domain, address.extension) is not None:
                return True
        try:
            if (await self._switch.command(user_exists(address))).value == "true":
                return True
        except SwitchUnavailable:
            return False
        if file_path not in self._told and len(self._told) < 1000:
            self._told.add(file_path)
            log.warning("recording_without_mailbox", mailbox=str(address), path=file_path)
        return False

    async def _look(self, file_paths: Sequence[str]) -> list[Look]:
        before = await asyncio.to_thread(lambda: [self._stamp(path) for path in file_paths])
        await asyncio.sleep(self._settle)
        return await asyncio.to_thread(lambda: [self._examine(*one) for one in zip(file_paths, before, strict=True)])

    def _stamp(self, file_path: str) -> tuple[int, int] | None:
        try:
            key = self._storage.key(file_path)
            # A disk that is not mounted takes the folder with it; a message that was deleted does not.
            if self._storage.gone(key):
                return None
            facts = self._storage.stat(key)
        except (NotFound, Unavailable):
            return _UNKNOWN
        return facts.size, facts.mtime_ns

    def _examine(self, file_path: str, before: tuple[int, int] | None) -> Look:
        if before is None or before == _UNKNOWN:
            return Look(Found.GONE if before is None else Found.NOT_READY)
        recording = files.read(self._storage, self._storage.key(file_path), lambda: False)
        if recording is None or (recording.size, recording.mtime_ns) != before:
            return Look(Found.NOT_READY)  # it is growing or was just removed: the next look will show
        if recording.size == 0 or (recording.codec == "wav" and recording.duration is None) or recording.duration == 0:
            return Look(Found.NOT_READY)  # no audio in it yet
        seconds = None if recording.duration is None else int(recording.duration)
        return Look(Found.READY, seconds, recording.mtime_ns // 10**9)
