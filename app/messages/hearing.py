"""Remembers every ``leave-message`` event until its row was seen, so that a message whose row never comes is not lost."""

import asyncio
from collections.abc import Callable, Collection

import structlog

from app.database.pool import Pool
from app.errors import DatabaseFailed
from app.messages import heard
from app.messages.lost import LeftMessage, left_message
from app.recordings.paths import RecordingPaths
from app.switch.esl.reply import Event

log = structlog.get_logger(__name__)

PATIENCE = 60.0  # seconds that a row may take after its event
_MOST = 10_000  # events that wait while the database is away; the orphans tell of those that are dropped
_BATCH = 500
_LONGEST_PAUSE = 15.0


class Hearing:
    """Runs in every process: whichever of them dies, another heard the same. ``hint`` hears what was written down."""

    def __init__(
        self, pool: Pool, paths: RecordingPaths, hint: Callable[[Collection[str]], None], *, patience: float = PATIENCE
    ) -> None:
        self._pool = pool
        self._paths = paths
        self._hint = hint
        self._patience = patience
        self._waiting: dict[str, LeftMessage] = {}
        self._wake = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Take an event of the switch; quick, for the Event Socket's callback."""
        left = left_message(event, self._paths)
        if left is not None and len(self._waiting) < _MOST:
            self._waiting.setdefault(left.file_path, left)
            self._wake.set()

    async def run(self) -> None:
        """Write down what was heard until cancelled; a database that is away is waited for."""
        pause = 0.5
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while self._waiting:
                    await self._write()
                pause = 0.5
            except DatabaseFailed as error:
                log.warning("heard_message_not_written", reason=type(error).__name__, waiting=len(self._waiting))
                self._wake.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _write(self) -> None:
        left = list(self._waiting.values())[:_BATCH]
        async with self._pool.acquire() as connection:
            await heard.put(connection, left, due_in=self._patience)
        for one in left:
            del self._waiting[one.file_path]
        # After the write: from now on nobody takes these for old, whatever the dates of their rows.
        self._hint([one.file_path for one in left])
