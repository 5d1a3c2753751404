"""Remembers every ``leave-message`` event until its row was seen, so that a message whose row never comes is not lost."""

from collections.abc import Callable, Collection

from app.database.pool import Pool
from app.jobs.loop import Loop
from app.messages import heard
from app.messages.lost import LeftMessage, left_message
from app.recordings.paths import RecordingPaths
from app.switch.esl.reply import Event

PATIENCE = 60.0  # seconds that a row may take after its event
_MOST = 10_000  # events that wait while the database is away; the orphans tell of those that are dropped
_BATCH = 500


class Hearing:
    """Runs in every process: if one dies, another has heard the same event. ``hint`` is called with the stored events."""

    def __init__(
        self, pool: Pool, paths: RecordingPaths, hint: Callable[[Collection[str]], None], *, patience: float = PATIENCE
    ) -> None:
        self._pool = pool
        self._paths = paths
        self._hint = hint
        self._patience = patience
        self._waiting: dict[str, LeftMessage] = {}
        self._loop = Loop("hearing", self._write_all, every=None)

    def hear(self, event: Event) -> None:
        """Take an event of the switch; quick, for the Event Socket's callback."""
        left = left_message(event, self._paths)
        if left is not None and len(self._waiting) < _MOST:
            self._waiting.setdefault(left.file_path, left)
            self._loop.wake()

    async def run(self) -> None:
        """Store the events until cancelled; wait while the database is away."""
        await self._loop.run()

    async def _write_all(self) -> None:
        while self._waiting:
            await self._write()

    async def _write(self) -> None:
        left = list(self._waiting.values())[:_BATCH]
        async with self._pool.acquire() as connection:
            await heard.put(connection, left, due_in=self._patience)
        for one in left:
            del self._waiting[one.file_path]
        # After the write: from now on these messages count as new, whatever the dates of their rows.
        self._hint([one.file_path for one in left])
