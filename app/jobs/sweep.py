"""Queues what is due, whatever became of its job: the owner's rows are the truth, and the queue only says when to look."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from uuid import UUID

from app.database.pool import Connection, Pool
from app.jobs.loop import Loop
from app.jobs.queue import Jobs
from app.jobs.retries import job_key

# Reads what is due now, the oldest first and at most so many: the id of each, and how often it was tried.
Due: TypeAlias = Callable[[Connection, int], Awaitable[list[tuple[UUID, int]]]]

_BATCH = 500


class Sweep:
    """Queues one job for each thing that is due. In several processes at once it does no harm."""

    def __init__(self, pool: Pool, jobs: Jobs, due: Mapping[str, Due], *, interval: float = 15.0) -> None:
        """``due``: what is due, for each entrypoint whose jobs do it."""
        self._pool = pool
        self._jobs = jobs
        self._due = dict(due)
        self._loop = Loop("sweep", self.step, every=interval)

    def wake(self) -> None:
        """Look now."""
        self._loop.wake()

    async def run(self) -> None:
        """Look at once and then every ``interval`` seconds, until cancelled."""
        await self._loop.run()

    async def step(self) -> None:
        """Queue what is due; what is queued already is not queued twice."""
        async with self._pool.acquire() as connection, connection.transaction():
            for entrypoint, due in self._due.items():
                found = [(str(owner), job_key(owner, tries), 0.0) for owner, tries in await due(connection, _BATCH)]
                await self._jobs.enqueue_many(connection, entrypoint, found)
