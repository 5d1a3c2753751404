"""Finds what is due in the ledger, whatever became of its job: the ledger is the truth, the queue only says when to look."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import structlog

from app.database.jobs import Jobs
from app.database.pool import UNAVAILABLE, Pool
from app.notifications import ledger
from app.notifications.model import NOTIFY, SETTLE, job_key

log = structlog.get_logger(__name__)

_BATCH = 500


class Sweep:
    """Queues mails and deletions that are due. In several processes at once it does no harm."""

    def __init__(self, pool: Pool, jobs: Jobs, *, interval: float = 15.0) -> None:
        self._pool = pool
        self._jobs = jobs
        self._interval = interval
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look at once and then every ``interval`` seconds, until cancelled."""
        away = False
        while True:
            self._wake.clear()
            try:
                await self.step()
                away = False
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                if not away:
                    log.warning("sweep_waiting", error=type(error).__name__)
                away = True
            try:
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Queue what is due, the oldest first; what is queued already is not queued twice."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._jobs.enqueue_many(connection, NOTIFY, _items(await ledger.due(connection, _BATCH)))
            await self._jobs.enqueue_many(connection, SETTLE, _items(await ledger.deleting_due(connection, _BATCH)))


def _items(due: Sequence[tuple[UUID, int]]) -> list[tuple[str, str, float]]:
    return [(str(found), job_key(found, tries), 0.0) for found, tries in due]
