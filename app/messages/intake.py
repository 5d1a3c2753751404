"""Finds the switch's new messages. Events, file changes and the clock say when to look; the tables say what is new."""

import asyncio
from collections.abc import Iterable, Sequence

from app.database.pool import Pool
from app.errors import VoicemailError
from app.jobs.loop import Loop, Step
from app.messages import store as records
from app.messages.hints import Hints
from app.messages.model import Message
from app.messages.registry import Registry
from app.recordings.index import RecordingIndex
from app.recordings.paths import RecordingPaths
from app.switch.tables import messages as store
from app.switch.tables.model import MessageRow

TIMER = 15.0  # seconds between two looks when nothing calls for one
FULL = 600.0  # seconds between two looks at the whole table
_OVERLAP = 900  # seconds before the newest row that every look covers; more than FULL, so a late row is met by one or the other
_AFTER_A_HINT = (0.05, 0.2, 0.75)  # seconds: mod_voicemail fires its event before it inserts the row
_BREATH = 0.03  # seconds between two looks, however many hints come
_POLL = 1.0  # seconds between two looks for the rows of hinted recordings
_COSTLY = 10  # a look for them waits this many times as long as the last one took: without the index it reads the whole table
_SLICE = 1000  # recordings a statement


class Intake:
    """Runs in the process that leads; more than one at a time would do no harm.

    A recording that an event or a change in the folder named (``hint``, ``hint_local``) is looked up by its name until its row
    is met, whatever date that has. A quick look covers what was created lately. A look at the whole table comes first, after
    trouble, when ``wake`` asks for it, and now and then: it finds rows that appear with an old date, whatever the clocks did.
    """

    def __init__(
        self,
        pool: Pool,
        switch_pool: Pool,
        registry: Registry,
        index: RecordingIndex,
        paths: RecordingPaths,
        *,
        timer: float = TIMER,
        full: float = FULL,
    ) -> None:
        self._pool = pool
        self._switch_pool = switch_pool
        self._registry = registry
        self._index = index
        self._hints = Hints(paths)
        self._hints_due = 0.0
        self._timer = timer
        self._full = full
        self._full_due = 0.0
        self._wake = asyncio.Event()
        self._delays: list[float] = []
        self._newest: int | None = None
        self._known: set[bytes] = set()
        self._loop = Loop("intake", self._whole_after_trouble(self.step), every=None, wait=self._whole_after_trouble(self._wait))

    def wake(self, *, full: bool = False) -> None:
        """Look soon; with ``full`` at the whole table, as after a time without events."""
        if full:
            self._full_due = 0.0
        self._wake.set()

    def hint(self, file_paths: Iterable[str]) -> None:
        """Look soon, and until they are found, for the rows of these recordings, named as the switch names them."""
        self._hints.add(file_paths)
        self._hints_due = 0.0
        self._wake.set()

    def hint_local(self, relatives: Iterable[str]) -> None:
        """The same for recordings named below the recordings folder."""
        self._hints.add_local(relatives)
        self._hints_due = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Look for new messages until cancelled."""
        self._full_due = 0.0  # what happened while another process led is not known here
        await self._loop.run()

    async def step(self) -> None:
        """Make one look. If it is interrupted, the next one does the rest."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._full_due:
            await self._look_lately()
            return
        await self._registry.begin()
        self._full_due = float("inf")  # a wake-up that comes meanwhile makes it due again
        try:
            await self._look_at_all()
            await self._registry.finish_baseline()
        except BaseException:
            self._full_due = 0.0
            raise
        self._full_due = min(self._full_due, loop.time() + self._full)

    async def _look_at_all(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._switch_pool.acquire() as connection:
            now = await store.clock(connection)
            rows = await store.undated(connection)
        since, looked = store.BEFORE_ALL, loop.time()
        self._newest = None  # the looks for new rows begin now, and not at the position of this one
        await self._take(rows)
        while rows := await self._after(since):
            await self._take(rows)
            since = rows[-1].created_epoch
            if loop.time() - looked > _AFTER_A_HINT[-1]:  # new rows do not wait for the end of a long table
                await self._look_lately()
                looked = loop.time()
        self._newest = None if since == store.BEFORE_ALL else min(since, now)

    async def _look_at_hints(self) -> None:
        """Look up the recordings that were hinted at, by the index on their names."""
        expected = self._hints.expected()
        began = asyncio.get_running_loop().time()
        new: list[Message] = []
        for start in range(0, len(expected), _SLICE):
            async with self._switch_pool.acquire() as connection:
                rows = await store.with_files(connection, expected[start : start + _SLICE])
            if rows:
                new += await self._take(rows)
        now = asyncio.get_running_loop().time()
        self._hints_due = now + max(_POLL, _COSTLY * (now - began))
        self._index.name(message.file_path for message in new)

    async def _look_lately(self) -> None:
        if asyncio.get_running_loop().time() >= self._hints_due:
            await self._look_at_hints()
        async with self._switch_pool.acquire() as connection:
            now = await store.clock(connection)
        # A row dated in the future by a wrong clock must not hide those after it.
        since = min(now, now if self._newest is None else self._newest) - _OVERLAP
        known: set[bytes] = set()
        new: list[Message] = []
        while rows := await self._after(since):
            new += await self._take(rows)
            known.update(row.key for row in rows)
            since = rows[-1].created_epoch
            self._newest = min(since, now)
        self._known = known
        # A whole table's recordings are read by the scan of their folder.
        self._index.name(message.file_path for message in new)

    async def _after(self, since: int) -> list[MessageRow]:
        async with self._switch_pool.acquire() as connection:
            return await store.after(connection, since)

    async def _take(self, rows: Sequence[MessageRow]) -> list[Message]:
        """Record those of the rows that are new."""
        by_key = {row.key: row for row in rows}
        unknown = by_key.keys() - self._known
        if unknown:
            async with self._pool.acquire() as connection:
                unknown -= await records.seen(connection, list(unknown))
        missing = [row for key, row in by_key.items() if key in unknown]
        new = await self._registry.record(missing) if missing else []
        self._hints.met(rows)
        return new

    async def _wait(self) -> None:
        """Wait for a hint or the time of the next look; meanwhile look for the rows of recordings that were hinted at."""
        await asyncio.sleep(_BREATH)
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._delays.pop(0) if self._delays else self._timer)
        while (left := end - loop.time()) > 0:
            if self._hints.expected():
                left = min(left, max(self._hints_due - loop.time(), _BREATH))
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                if self._hints.expected() and loop.time() < end:
                    await self._look_at_hints()
                continue
            self._wake.clear()
            self._delays = list(_AFTER_A_HINT)
            return

    def _whole_after_trouble(self, step: Step) -> Step:
        """``step``, after whose failure the next look is one at the whole table."""

        async def guarded() -> None:
            try:
                await step()
            except (VoicemailError, OSError):
                self._full_due = 0.0
                raise

        return guarded
