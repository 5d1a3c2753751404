"""The intake of one service, with an announcer that can be asked and can fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from app.database.pool import Connection, Pool
from app.messages.intake import Intake
from app.messages.model import Message
from app.messages.registry import Registry
from app.recordings.index import RecordingIndex
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from tests.support.switch_rows import ROOT

DAY = 24 * 3600


class IntakeUnderTest:
    """The intake of one service, and what it announced: kept in a table, as what is written in the announcing transaction is."""

    def __init__(self, pool: Pool, folder: Path, *, max_age: int = DAY, full: float = 600.0) -> None:
        self.pool = pool
        self.paths = RecordingPaths(folder, ROOT)
        self.storage = RecordingStorage(self.paths)
        self.registry = Registry(pool, pool, self.storage, self.announce, max_age=max_age)
        self.index = RecordingIndex(pool, self.storage)
        self.intake = Intake(pool, pool, self.registry, self.index, self.paths, timer=0.2, full=full)
        self.broken: Exception | None = None

    async def announce(self, connection: Connection, messages: Sequence[Message]) -> None:
        """What notifications do: write something, or fail."""
        await connection.executemany("INSERT INTO announced VALUES ($1, $2)", [(m.id, m.file_path) for m in messages])
        if self.broken:
            raise self.broken

    async def announced(self) -> list[str]:
        """The recordings of the messages announced so far."""
        return [record[0] for record in await self.pool.fetch("SELECT file_path FROM announced")]

    async def recorded(self) -> dict[str, UUID]:
        """The id of each recorded message by its recording."""
        return dict(await self.pool.fetch("SELECT file_path, id FROM voicemail.message"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The intake runs, as in the process that leads."""
        tasks = [asyncio.create_task(run()) for run in (self.intake.run, self.index.run)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait until an answer is true."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)
