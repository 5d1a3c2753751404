"""The one loop: wake-ups, times, pauses after trouble, and faults that are not hidden."""

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from app.errors import DatabaseUnavailable, MissingTable
from app.jobs.loop import Loop
from app.jobs.retries import Retries

SOON = Retries(first=0.01, longest=0.01)


async def _until(condition: object, limit: float = 5.0) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_first_step_is_made_at_once_and_the_next_when_woken() -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    loop = Loop("test", step, every=60)
    task = asyncio.create_task(loop.run())
    await _until(lambda: steps == 1)

    loop.wake()
    await _until(lambda: steps == 2)
    await asyncio.sleep(0.05)

    assert steps == 2
    await _end(task)


async def test_a_wake_up_during_a_step_is_not_lost() -> None:
    began, go, steps = asyncio.Event(), asyncio.Event(), 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        began.set()
        await go.wait()

    loop = Loop("test", step, every=60)
    task = asyncio.create_task(loop.run())
    await began.wait()
    loop.wake()
    go.set()

    await _until(lambda: steps == 2)
    await _end(task)


async def test_a_wake_up_can_be_worth_several_steps() -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    loop = Loop("test", step, every=60, after_wake=(0.01, 0.01))
    task = asyncio.create_task(loop.run())
    await _until(lambda: steps == 1)
    loop.wake()

    await _until(lambda: steps == 4)
    await _end(task)


async def test_a_step_is_made_now_and_then_without_a_wake_up() -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    task = asyncio.create_task(Loop("test", step, every=0.01).run())

    await _until(lambda: steps >= 3)
    await _end(task)


async def test_what_is_away_is_waited_for_and_told_once_at_its_begin_and_its_end() -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps < 5:
            raise DatabaseUnavailable

    with capture_logs() as logs:
        task = asyncio.create_task(Loop("test", step, every=60, retries=SOON).run())
        await _until(lambda: steps == 5)
        await asyncio.sleep(0.02)
        await _end(task)

    assert [line["event"] for line in logs] == ["test_waiting", "test_working"]


async def _trouble_of(error: Exception) -> dict[str, object]:
    async def step() -> None:
        raise error

    with capture_logs() as logs:
        task = asyncio.create_task(Loop("test", step, every=60, retries=SOON).run())
        await _until(lambda: logs)
        await _end(task)
    return dict(logs[0])


async def test_an_error_of_a_file_is_waited_for_and_names_the_file_and_the_reason() -> None:
    told = await _trouble_of(PermissionError(13, "Permission denied", "/recordings/msg_1.wav"))

    assert told["reason"] == "/recordings/msg_1.wav: Permission denied"


async def test_a_database_that_is_away_is_told_with_its_cause() -> None:
    told = await _trouble_of(DatabaseUnavailable("the database does not answer", reason="connection refused"))

    assert (told["reason"], told["cause"]) == ("the database does not answer", "connection refused")


async def test_a_refused_statement_is_told_by_its_kind() -> None:
    told = await _trouble_of(MissingTable("the database refused a statement: no such table", sqlstate="42P01"))

    assert told["reason"] == "MissingTable: the database refused a statement: no such table"


async def test_the_time_between_steps_may_depend_on_what_was_found() -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    task = asyncio.create_task(Loop("test", step, every=lambda: 0.01 if steps < 3 else 60).run())
    await _until(lambda: steps == 3)
    await asyncio.sleep(0.05)

    assert steps == 3
    await _end(task)


async def test_without_a_time_only_a_wake_up_makes_another_step() -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    loop = Loop("test", step, every=None)
    task = asyncio.create_task(loop.run())
    await _until(lambda: steps == 1)
    await asyncio.sleep(0.05)
    assert steps == 1

    loop.wake()
    await _until(lambda: steps == 2)
    await _end(task)


async def test_a_wait_of_its_own_that_fails_is_a_trouble_like_a_failed_step() -> None:
    waits = 0

    async def step() -> None:
        pass

    async def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            raise DatabaseUnavailable
        await asyncio.sleep(0.01)

    with capture_logs() as logs:
        task = asyncio.create_task(Loop("test", step, every=None, wait=wait, retries=SOON).run())
        await _until(lambda: waits == 3)
        await _end(task)

    assert [line["event"] for line in logs] == ["test_waiting", "test_working"]


async def test_a_fault_is_not_hidden() -> None:
    async def step() -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        await asyncio.wait_for(Loop("test", step, every=60).run(), 5)


async def test_cancelling_ends_it_at_once_also_in_a_pause() -> None:
    async def step() -> None:
        raise DatabaseUnavailable

    task = asyncio.create_task(Loop("test", step, every=60, retries=Retries(first=60, longest=60)).run())
    await asyncio.sleep(0.02)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 1)


def test_pauses_double_up_to_the_longest() -> None:
    retries = Retries(first=5, longest=1800)

    assert [retries.delay(tries) for tries in (0, 1, 2, 3, 10, 100)] == [5, 5, 10, 20, 1800, 1800]


def test_jitter_only_shortens_a_pause() -> None:
    delays = {Retries(first=100, longest=100, jitter=0.5).delay(1) for _ in range(100)}

    assert len(delays) > 10
    assert all(50 <= delay <= 100 for delay in delays)


@pytest.mark.parametrize(("age", "tries", "over"), [(0, 1000, False), (1e9, 59, False), (2 * 86400, 60, True)])
def test_work_is_given_up_only_if_it_is_old_and_was_tried_often(age: float, tries: int, over: bool) -> None:
    assert Retries().over(age, tries) is over
