"""Jobs: queued with a transaction, run soon after it, by somebody, whatever dies in between."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.database.migrations import migrate
from app.database.pool import Pool, connect, open_pool
from app.embedded.postgres import EmbeddedPostgres
from app.errors import DatabaseUnavailable
from app.jobs.queue import Jobs


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition by looking often."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def at_work(jobs: Jobs) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker that runs for the block."""
    task = asyncio.create_task(jobs.run())
    try:
        await until(lambda: jobs.connected)
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


class Record:
    """A handler that keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, payload: str) -> None:
        self.seen.append(payload)


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def jobs(database: str, record: Record) -> Jobs:
    jobs = Jobs(database, heartbeat_timeout=2.0)
    jobs.register("test", record)
    return jobs


async def test_a_job_runs_after_its_transaction_commits_and_not_before(jobs: Jobs, pool: Pool, record: Record) -> None:
    async with at_work(jobs), pool.acquire() as connection:
        async with connection.transaction():
            await jobs.enqueue(connection, "test", "one", dedupe_key="one")
            await asyncio.sleep(0.1)
            before = list(record.seen)

        await until(lambda: record.seen)

    assert before == []
    assert record.seen == ["one"]


async def test_a_job_of_a_transaction_that_rolls_back_never_runs(jobs: Jobs, pool: Pool, record: Record) -> None:
    async with at_work(jobs), pool.acquire() as connection:
        with contextlib.suppress(ZeroDivisionError):
            async with connection.transaction():
                await jobs.enqueue(connection, "test", "lost", dedupe_key="lost")
                raise ZeroDivisionError
        await jobs.enqueue(connection, "test", "kept", dedupe_key="kept")

        await until(lambda: "kept" in record.seen)
        assert await jobs.waiting(connection) in ({}, {"test": 1})

    assert record.seen == ["kept"]


async def test_a_job_wakes_the_worker_and_does_not_wait_for_its_poll(jobs: Jobs, pool: Pool) -> None:
    ran: list[float] = []

    async def note(_payload: str) -> None:
        ran.append(time.monotonic())

    jobs.register("note", note)
    took = []
    async with at_work(jobs):
        for number in range(10):
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await jobs.enqueue(pool, "note", str(number), dedupe_key=str(number))
            await until(lambda number=number: len(ran) > number)
            took.append(ran[-1] - began)

    # The worker's own poll comes every 2 s; a median far below it means that the notification did it.
    assert sorted(took)[5] < 0.5


async def test_a_delayed_job_waits_while_later_ones_pass(jobs: Jobs, pool: Pool, record: Record) -> None:
    async with at_work(jobs):
        began = time.monotonic()
        await jobs.enqueue(pool, "test", "later", dedupe_key="later", delay=0.7)
        await jobs.enqueue(pool, "test", "now", dedupe_key="now")

        await until(lambda: len(record.seen) == 2)

    assert record.seen == ["now", "later"]
    assert time.monotonic() - began >= 0.7


async def test_the_same_key_waits_once_and_the_transaction_goes_on(jobs: Jobs, pool: Pool, record: Record) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await jobs.enqueue(connection, "test", "first", dedupe_key="key")
        await jobs.enqueue(connection, "test", "second", dedupe_key="key")
        await jobs.enqueue_many(connection, "test", [("third", "key", 0.0), ("other", "other key", 0.0)])
        await connection.execute("INSERT INTO voicemail.installation VALUES ('still', 'usable')")

    async with at_work(jobs):
        await until(lambda: len(record.seen) == 2)

        assert sorted(record.seen) == ["first", "other"]
        assert await pool.fetchval("SELECT value FROM voicemail.installation WHERE name = 'still'") == "usable"


async def test_a_key_belongs_to_its_entrypoint(jobs: Jobs, pool: Pool, record: Record) -> None:
    other = Record()
    jobs.register("other", other)
    await jobs.enqueue(pool, "test", "a", dedupe_key="same")
    await jobs.enqueue(pool, "other", "b", dedupe_key="same")

    async with at_work(jobs):
        await until(lambda: record.seen and other.seen)

    assert (record.seen, other.seen) == (["a"], ["b"])


async def test_a_key_is_free_again_once_its_job_has_run(jobs: Jobs, pool: Pool, record: Record) -> None:
    async with at_work(jobs):
        await jobs.enqueue(pool, "test", "first", dedupe_key="key")
        await until(lambda: record.seen)
        async with asyncio.timeout(5):
            while len(record.seen) < 2:
                await jobs.enqueue(pool, "test", "again", dedupe_key="key")
                await asyncio.sleep(0.02)

    assert record.seen[:2] == ["first", "again"]


async def test_a_database_that_is_away_is_not_logged_for_each_job(jobs: Jobs, pool: Pool, record: Record) -> None:
    async def fail(_payload: str) -> None:
        raise DatabaseUnavailable("the database does not answer")

    jobs.register("fails", fail)
    with capture_logs() as lines:
        async with at_work(jobs):
            for number in range(10):
                await jobs.enqueue(pool, "fails", str(number), dedupe_key=str(number))
            await until(lambda: sum(line["event"] == "job_failed" for line in lines) == 10)

    assert {line["log_level"] for line in lines if line["event"] == "job_failed"} == {"debug"}


async def test_a_handler_that_raises_is_logged_without_its_words_and_stops_nothing(
    jobs: Jobs, pool: Pool, record: Record
) -> None:
    async def fail(_payload: str) -> None:
        raise ValueError("the PIN is 4711")

    jobs.register("fails", fail)
    with capture_logs() as lines:
        async with at_work(jobs):
            await jobs.enqueue(pool, "fails", "42", dedupe_key="42")
            await until(lambda: any(line["event"] == "job_failed" for line in lines))
            await jobs.enqueue(pool, "test", "after", dedupe_key="after")
            await until(lambda: record.seen)
            async with asyncio.timeout(5):
                while await jobs.waiting(pool):
                    await asyncio.sleep(0.02)

    failed = [line for line in lines if line["event"] == "job_failed"]
    assert [line["log_level"] for line in failed] == ["error"]
    assert [(line["entrypoint"], line["payload"], line["error"]) for line in failed] == [("fails", "42", "ValueError")]
    assert "4711" not in str(lines)
    assert "4711" not in str(await pool.fetch("SELECT traceback::text FROM voicemail.pgqueuer_log"))


async def test_hostile_payloads_and_keys_arrive_as_they_were(jobs: Jobs, pool: Pool, record: Record) -> None:
    hostile = ["'; DROP TABLE voicemail.pgqueuer; --", "a\nb", "ü" * 500, "$1", "\\x41"]

    await jobs.enqueue_many(pool, "test", [(text, text, 0.0) for text in hostile])
    async with at_work(jobs):
        await until(lambda: len(record.seen) == len(hostile))

    assert sorted(record.seen) == sorted(hostile)


async def test_no_more_than_the_given_number_run_at_once_in_all_processes(database: str, pool: Pool) -> None:
    running, most, done = 0, 0, 0

    async def handler(_payload: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        done += 1

    workers = [Jobs(database), Jobs(database)]
    for worker in workers:
        worker.register("few", handler, concurrency=3)
    await workers[0].enqueue_many(pool, "few", [(str(number), str(number), 0.0) for number in range(30)])
    async with at_work(workers[0]), at_work(workers[1]):
        await until(lambda: done == 30)

    assert most <= 3


async def test_two_workers_share_many_jobs_and_run_each_once(database: str, pool: Pool, jobs: Jobs, record: Record) -> None:
    second, seen_by_second = Jobs(database), Record()
    second.register("test", seen_by_second)
    await jobs.enqueue_many(pool, "test", [(str(number), str(number), 0.0) for number in range(500)])

    async with at_work(jobs), at_work(second):
        await until(lambda: len(record.seen) + len(seen_by_second.seen) >= 500, 30)

    assert sorted(record.seen + seen_by_second.seen, key=int) == [str(number) for number in range(500)]


async def test_a_cancelled_worker_ends_soon_and_its_jobs_run_elsewhere_at_once(database: str, pool: Pool, record: Record) -> None:
    began = asyncio.Event()

    async def endless(_payload: str) -> None:
        began.set()
        await asyncio.Event().wait()

    stopping = Jobs(database, heartbeat_timeout=60.0)
    stopping.register("long", endless)
    worker = asyncio.create_task(stopping.run())
    await stopping.enqueue(pool, "long", "job", dedupe_key="job")
    await asyncio.wait_for(began.wait(), 10)

    worker.cancel()
    done, _ = await asyncio.wait({worker}, timeout=2.0)
    assert done
    assert worker.cancelled()

    # Its heartbeat would be good for a minute: only a job that was put back is taken at once.
    taking = Jobs(database, heartbeat_timeout=60.0)
    taking.register("long", record)
    async with at_work(taking):
        await until(lambda: record.seen == ["job"], 5)


async def test_a_handler_that_is_nearly_done_is_let_finish_when_the_worker_stops(database: str, pool: Pool) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def brief(_payload: str) -> None:
        began.set()
        await asyncio.sleep(0.3)
        ended.set()

    jobs = Jobs(database)
    jobs.register("brief", brief)
    worker = asyncio.create_task(jobs.run())
    await jobs.enqueue(pool, "brief", "job", dedupe_key="job")
    await asyncio.wait_for(began.wait(), 10)

    worker.cancel()
    await asyncio.wait({worker})

    assert ended.is_set()
    assert await jobs.waiting(pool) == {}


async def test_a_connection_that_is_killed_is_replaced_and_what_runs_goes_on(jobs: Jobs, pool: Pool, record: Record) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def slow(payload: str) -> None:
        began.set()
        await go_on.wait()
        ended.append(payload)

    jobs.register("slow", slow)
    async with at_work(jobs):
        await jobs.enqueue(pool, "slow", "slow", dedupe_key="slow")
        await asyncio.wait_for(began.wait(), 10)

        async with asyncio.timeout(10):
            while jobs.connected:
                await pool.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'voicemail jobs' AND datname = current_database()"
                )
                await asyncio.sleep(0.1)
        await until(lambda: jobs.connected)
        await jobs.enqueue(pool, "test", "after", dedupe_key="after")
        await until(lambda: record.seen)
        assert ended == []
        go_on.set()
        await until(lambda: ended)

    assert ended[0] == "slow"


WORKER = """
import asyncio, sys
from app.jobs.queue import Jobs

async def handler(payload):
    print("began", payload, flush=True)
    await asyncio.Event().wait()

jobs = Jobs(sys.argv[1], heartbeat_timeout=2.0)
jobs.register("test", handler)
asyncio.run(jobs.run())
"""


async def test_the_job_of_a_killed_process_is_run_by_another(database: str, jobs: Jobs, pool: Pool, record: Record) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, database, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[3]
    )
    try:
        assert process.stdout is not None
        await jobs.enqueue(pool, "test", "job", dedupe_key="job")
        async with asyncio.timeout(60):
            while b"began job" not in (line := await process.stdout.readline()):
                assert line, "the worker ended before it began"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with at_work(jobs):
        await until(lambda: record.seen == ["job"])


async def enqueue_when_possible(jobs: Jobs, dsn: str, payload: str) -> None:
    """Enqueue as soon as the server takes connections again."""
    async with asyncio.timeout(10):
        while True:
            try:
                connection = await connect(dsn, application_name="test")
                await jobs.enqueue(connection, "test", payload, dedupe_key=payload)
                await connection.close()
                return
            except DatabaseUnavailable:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL], ids=["restarted", "killed"])
async def test_jobs_go_on_after_the_server_came_back(tmp_path: Path, record: Record, kill: signal.Signals) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    dsn = await server.start()
    try:
        await migrate(dsn)
        jobs = Jobs(dsn)
        jobs.register("test", record)
        pool = await open_pool(dsn, application_name="test")
        with capture_logs() as lines:
            async with at_work(jobs):
                await jobs.enqueue(pool, "test", "delayed", dedupe_key="delayed", delay=0.5)
                await stop_server(tmp_path / "postgres" / "cluster", kill)
                await until(lambda: not jobs.connected)
                await server.stop()

                assert await server.start() == dsn
                await enqueue_when_possible(jobs, dsn, "meanwhile")
                await until(lambda: sorted(record.seen) == ["delayed", "meanwhile"])
        await pool.close()
    finally:
        await server.stop()

    assert [line["event"] for line in lines].count("jobs_interrupted") == 1


async def stop_server(cluster: Path, number: signal.Signals) -> None:
    """End a server from outside, and wait until its process is gone."""
    import os

    from app.embedded.reaper import alive

    pid = int((cluster / "postmaster.pid").read_text().split()[0])
    os.kill(pid, number)
    await until(lambda: not alive(pid))


async def test_a_worker_waits_for_a_database_that_is_not_there_yet(tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "postgres"
    async with EmbeddedPostgres(folder) as dsn:
        await migrate(dsn)
    jobs = Jobs(dsn)
    jobs.register("test", record)
    worker = asyncio.create_task(jobs.run())
    await asyncio.sleep(0.5)

    async with EmbeddedPostgres(folder) as again:
        assert again == dsn
        await until(lambda: jobs.connected)
        await enqueue_when_possible(jobs, dsn, "job")
        await until(lambda: record.seen == ["job"])
        worker.cancel()
        await asyncio.wait({worker})


async def test_names_in_the_environment_do_not_move_the_queue(
    monkeypatch: pytest.MonkeyPatch, database: str, pool: Pool, record: Record
) -> None:
    for name in ("CHANNEL", "FUNCTION", "QUEUE_TABLE", "PGQUEUER_SCHEMA", "PGQUEUER_PREFIX", "PGQUEUER_CHANNEL"):
        monkeypatch.setenv(name, "elsewhere")
    jobs = Jobs(database)
    jobs.register("test", record)

    async with at_work(jobs):
        await jobs.enqueue(pool, "test", "job", dedupe_key="job")
        await until(lambda: record.seen == ["job"])


async def test_old_lines_of_the_queues_log_are_removed(jobs: Jobs, pool: Pool) -> None:
    await pool.execute("""
        INSERT INTO voicemail.pgqueuer_log (created, job_id, status, priority, entrypoint)
        VALUES (now() - interval '8 days', 1, 'successful', 0, 'test'),
               (now() - interval '6 days', 2, 'successful', 0, 'test')""")

    async with at_work(jobs), asyncio.timeout(5):
        while await pool.fetchval("SELECT count(*) FROM voicemail.pgqueuer_log") != 1:
            await asyncio.sleep(0.02)


def test_an_entrypoint_has_one_handler(jobs: Jobs, record: Record) -> None:
    with pytest.raises(ValueError, match="has a handler already"):
        jobs.register("test", record)
