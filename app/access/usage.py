"""When each token was used last, to the minute; written in the background, so that requests do not wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import structlog

from app.errors import DatabaseFailed, explained
from app.jobs.loop import Loop

log = structlog.get_logger(__name__)

Write = Callable[[Mapping[bytes, datetime]], Awaitable[None]]

_EVERY = 2.0  # seconds between writes, of digests whose minute has changed
_LAST_WRITE = 1.0  # seconds when the service stops
_MOST = 10_000


class TokenUsage:
    """Collects uses in memory and writes each digest at most once a minute."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._minutes: dict[bytes, int] = {}  # the last minute that is written or waiting to be written
        self._waiting: dict[bytes, int] = {}
        self._loop = Loop("token_use", self.flush, every=_EVERY)

    def note(self, digest: bytes) -> None:
        """Note that a request used this token. It takes less than a microsecond."""
        minute = int(self._clock()) // 60
        if self._minutes.get(digest) != minute:
            if len(self._minutes) >= _MOST:
                self._minutes.clear()
            self._minutes[digest] = self._waiting[digest] = minute

    async def run(self) -> None:
        """Write every few seconds until cancelled, and once more then."""
        try:
            await self._loop.run()
        finally:
            try:
                await asyncio.wait_for(self.flush(), _LAST_WRITE)
            except (DatabaseFailed, TimeoutError) as error:
                log.warning("token_use_not_written", reason=explained(error))

    async def flush(self) -> None:
        """Write the waiting uses. If the database is away, keep them and raise the error."""
        if not self._waiting:
            return
        taken, self._waiting = self._waiting, {}
        try:
            await self._write({digest: datetime.fromtimestamp(minute * 60, UTC) for digest, minute in taken.items()})
        except BaseException:
            self._waiting = {**taken, **self._waiting}
            raise
