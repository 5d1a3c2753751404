"""The leader: one process at a time, and another soon when it is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from structlog.testing import capture_logs

from app.database.pool import Pool
from app.jobs.leader import Leader

KILL_LEADERS = """
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'voicemail leader' AND a.datname = current_database()"""


class Work:
    """Work that tells when it began and ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1
        self.began.set()
        self.ended.clear()
        try:
            await asyncio.Event().wait()
        finally:
            self.began.clear()
            self.ended.set()


@contextlib.asynccontextmanager
async def leading(leader: Leader, work: Callable[[], Awaitable[None]]) -> AsyncIterator["asyncio.Task[None]"]:
    """A process that would like to lead, for the block."""
    task = asyncio.create_task(leader.lead(work))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def begun(*works: Work, seconds: float = 10.0) -> None:
    """Wait until one of several begins."""
    waits = [asyncio.ensure_future(work.began.wait()) for work in works]
    done, left = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in left:
        wait.cancel()
    assert done


async def test_of_two_only_one_works_and_the_other_follows_when_it_leaves(database: str) -> None:
    first, second, work, other = Leader(database), Leader(database), Work(), Work()

    async with leading(second, other):
        await begun(other)
        async with leading(first, work):
            await asyncio.sleep(1.2)  # longer than the interval of its tries
            assert (work.times, first.leading, second.leading) == (0, False, True)

    async with leading(first, work):
        await begun(work)
        assert first.leading
    assert other.ended.is_set()
    assert work.ended.is_set()
    assert not first.leading


async def test_a_leader_that_stops_is_followed(database: str) -> None:
    work, other = Work(), Work()

    async with leading(Leader(database), work) as stopping:
        await begun(work)
        async with leading(Leader(database), other):
            stopping.cancel()
            await begun(other)

    assert work.ended.is_set()


async def test_a_leader_whose_connection_is_killed_stops_its_work_and_one_works_again(database: str, pool: Pool) -> None:
    work, other = Work(), Work()

    async with leading(Leader(database), work), leading(Leader(database), other):
        await begun(work, other)
        leader = work if work.began.is_set() else other

        assert await pool.fetchval(KILL_LEADERS) == 1
        await asyncio.wait_for(leader.ended.wait(), 5)
        await begun(work, other)

        assert work.times + other.times == 2
        assert work.began.is_set() != other.began.is_set()


async def test_work_that_fails_is_logged_and_begun_again(database: str) -> None:
    tries: list[int] = []
    again = asyncio.Event()

    async def failing() -> None:
        tries.append(1)
        if len(tries) > 1:
            again.set()
            await asyncio.Event().wait()
        raise ValueError("no")

    with capture_logs() as lines:
        async with leading(Leader(database), failing):
            await asyncio.wait_for(again.wait(), 10)

    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["leader_work_failed"]


async def test_a_leader_of_one_database_does_not_hinder_another_database(database: str, postgres: str) -> None:
    work, other = Work(), Work()

    async with leading(Leader(database), work), leading(Leader(postgres), other):
        await begun(work)
        await begun(other)


async def test_a_database_that_is_away_is_waited_for_and_logged_once(unused_port: int) -> None:
    work = Work()
    with capture_logs() as lines:
        async with leading(Leader(f"postgresql://nobody:secret@127.0.0.1:{unused_port}/x"), work):
            await asyncio.sleep(1.5)

    assert [line["event"] for line in lines] == ["leader_interrupted"]
    assert "secret" not in str(lines)
    assert work.times == 0
