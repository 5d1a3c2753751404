"""Work that must happen after a transaction commits, queued in that transaction; pgqueuer behind a small interface.

The queue only says *when* to look. What is to be done, how often it was tried and how it ended stand in the owner's own rows, and
the owner sweeps them: a job that is lost, or run twice, changes nothing but the time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import MappingProxyType

import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.settings import DBSettings
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job

from app.database.pool import Connection
from app.errors import DatabaseUnavailable, places_of
from app.jobs.retries import Retries
from app.jobs.sessions import SessionLoop
from app.tracing import Tracing

log = structlog.get_logger(__name__)

Handler = Callable[[str], Awaitable[None]]

_BATCH = 10
_POLL = timedelta(seconds=2)  # how long a missed notification can delay a job
_STATEMENT = 10.0  # seconds for one statement of the queue; a server that stalls is left then
_RETRIES = Retries(first=0.2, longest=2.0)
_GRACE = 1.0  # seconds for running handlers to end by themselves when the service stops
_PRUNE_EVERY = 3600.0
_PRUNE = "DELETE FROM voicemail.pgqueuer_log WHERE created < now() - interval '7 days'"


# The whole table: finished jobs leave it. A job that is taken has no time of its own to be late by.
_DEPTHS = """
SELECT entrypoint, count(*) AS jobs,
    coalesce(extract(epoch FROM now() - min(execute_after) FILTER (WHERE status = 'queued')), 0)::float8 AS overdue
FROM voicemail.pgqueuer GROUP BY entrypoint
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs of a kind wait or run, and how many seconds the first waiting one is late."""

    jobs: int
    overdue: float


@dataclass(frozen=True, slots=True)
class _Entrypoint:
    handler: Handler
    concurrency: int


class Jobs:
    """The queue: enqueue in any transaction, register handlers, and ``run`` one worker a process."""

    def __init__(self, dsn: str, *, heartbeat_timeout: float = 10.0, tracing: Tracing | None = None) -> None:
        """``heartbeat_timeout``: seconds after which the jobs of a process that died are given to another."""
        self._dsn = dsn
        self._tracing = tracing or Tracing()
        self._heartbeat = timedelta(seconds=heartbeat_timeout)
        self._entrypoints: dict[str, _Entrypoint] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._settings = _settings()
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether this process's worker is taking jobs."""
        return self._connected

    def register(self, entrypoint: str, handler: Handler, *, concurrency: int = 10) -> None:
        """Let ``handler`` do the jobs of ``entrypoint``, at most ``concurrency`` at a time in all processes together.

        The handler is given the payload, makes one attempt and writes the outcome to its own row. What it raises is logged, and
        the job is dropped. It may run twice for one payload, and must yield to the loop at least every few seconds.
        """
        if entrypoint in self._entrypoints:
            raise ValueError(f"{entrypoint} has a handler already")
        self._entrypoints[entrypoint] = _Entrypoint(handler, concurrency)

    async def enqueue(
        self, connection: Connection, entrypoint: str, payload: str, *, dedupe_key: str, delay: float = 0.0
    ) -> None:
        """Queue one job in the connection's transaction, to run ``delay`` seconds after its begin at the earliest.

        Nothing happens if a job of this entrypoint with the same key waits or runs: give every attempt a key of its own.
        """
        await self.enqueue_many(connection, entrypoint, [(payload, dedupe_key, delay)])

    async def enqueue_many(self, connection: Connection, entrypoint: str, items: Sequence[tuple[str, str, float]]) -> None:
        """Queue several jobs of one entrypoint: of each its payload, dedupe key and delay in seconds."""
        if not items:
            return
        await self._queries(connection).enqueue(
            [entrypoint] * len(items),
            [payload.encode() for payload, _, _ in items],
            [0] * len(items),
            [timedelta(seconds=delay) for _, _, delay in items],
            [f"{entrypoint}:{key}" for _, key, _ in items],
            on_conflict="skip",
        )

    async def waiting(self, connection: Connection) -> Mapping[str, int]:
        """How many jobs wait or run, by entrypoint."""
        rows = await connection.fetch("SELECT entrypoint, count(*) AS jobs FROM voicemail.pgqueuer GROUP BY entrypoint")
        return MappingProxyType({row["entrypoint"]: row["jobs"] for row in rows})

    async def depths(self, connection: Connection) -> Mapping[str, Depth]:
        """How much waits or runs, of every entrypoint that this process knows."""
        found = {row["entrypoint"]: Depth(row["jobs"], max(row["overdue"], 0.0)) for row in await connection.fetch(_DEPTHS)}
        return {name: found.get(name, Depth(0, 0.0)) for name in self._entrypoints}

    async def run(self) -> None:
        """Take jobs until cancelled; wait while the database is away. Ends within about 2 s after the cancel."""
        # A connection of its own: a pool's would lose LISTEN at a restart.
        loop = SessionLoop("jobs", self._dsn, self._session, answer=_STATEMENT, retries=_RETRIES)
        try:
            await loop.run()
        finally:
            await _end(self._running.values())

    async def _session(self, connection: Connection) -> None:
        manager = self._manager(connection)
        worker = asyncio.ensure_future(self._work(manager))
        prune = asyncio.ensure_future(_prune(manager))
        try:
            await asyncio.wait({worker})
            worker.result()
        except asyncio.CancelledError:
            if not connection.is_closed():
                await self._put_back(manager, worker)
            raise
        finally:
            self._connected = False
            # Before the worker is cancelled: it would report running jobs as cancelled, and they are not.
            connection.terminate()
            await _end([worker, prune])

    async def _work(self, manager: QueueManager) -> None:
        if not self._entrypoints:
            raise RuntimeError("no handler is registered")
        self._connected = True
        log.info("jobs_running", entrypoints=sorted(self._entrypoints))
        await manager.run(
            dequeue_timeout=_POLL,
            batch_size=_BATCH,
            max_concurrent_tasks=max(2 * _BATCH, sum(entry.concurrency for entry in self._entrypoints.values())),
            heartbeat_timeout=self._heartbeat,
            log_aggregation_interval=timedelta(0),
        )

    async def _put_back(self, manager: QueueManager, worker: "asyncio.Future[None]") -> None:
        """Take no more jobs, let running ones end or put them back, and give both a little time."""
        manager.shutdown.set()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_GRACE)
        for task in self._running.values():
            task.cancel()
        await asyncio.wait({worker}, timeout=_GRACE / 2)

    def _manager(self, connection: Connection) -> QueueManager:
        manager = QueueManager(self._queries(connection), self._settings.channel)
        for name, entry in self._entrypoints.items():
            manager.entrypoint(name, concurrency_limit=entry.concurrency, accepts_context=False)(partial(self._perform, entry))
        return manager

    async def _perform(self, entry: _Entrypoint, job: Job) -> None:
        """Run a job apart from the queue's own task: when the connection is lost, what runs here goes on to its end."""
        task = self._running.get(job.id)
        if task is None:
            task = asyncio.ensure_future(self._traced(entry.handler, job))
            self._running[job.id] = task
            task.add_done_callback(lambda _task: self._running.pop(job.id, None))
        await asyncio.wait({task})
        if task.cancelled():
            raise RetryRequested(reason="the service stopped")

    async def _traced(self, handler: Handler, job: Job) -> None:
        with self._tracing.job(job.entrypoint):
            await _attempt(handler, job)

    def _queries(self, connection: Connection) -> Queries:
        return Queries(
            AsyncpgDriver(connection),
            qbe=QueryBuilderEnvironment(self._settings),
            qbq=QueryQueueBuilder(self._settings),
            qbs=QuerySchedulerBuilder(self._settings),
        )


async def _attempt(handler: Handler, job: Job) -> None:
    payload = (job.payload or b"").decode(errors="replace")
    try:
        await handler(payload)
    except DatabaseUnavailable as error:  # `jobs_interrupted` tells of the outage, and the sweep finds the work again
        log.debug("job_failed", entrypoint=job.entrypoint, payload=payload, reason=error.reason)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises must not stop the others
        # The text of an exception may quote private data, so only its type and place are logged.
        log.error("job_failed", entrypoint=job.entrypoint, payload=payload, error=type(error).__name__, at=places_of(error)[-1:])


async def _prune(manager: QueueManager) -> None:
    """Keep a week of the queue's log, which pgqueuer itself never shortens. A lost connection ends this with its session."""
    while True:
        await manager.queries.driver.execute(_PRUNE)
        await asyncio.sleep(_PRUNE_EVERY)


async def _end(tasks: Collection["asyncio.Future[None]"]) -> None:
    """Cancel until they are done: pgqueuer waits for its jobs at the first cancel and cancels them at the second."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # the exception was retrieved; the caller raised the important one


def _settings() -> DBSettings:
    # Every name is given: pgqueuer would take them from variables as common as CHANNEL or FUNCTION.
    return DBSettings(
        prefix="",
        db_schema="voicemail",
        channel="ch_pgqueuer",
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
        durability="durable",
        widen_id=True,
    )
