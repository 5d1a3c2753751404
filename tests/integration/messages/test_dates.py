"""What is new is decided by what was there before, never by a row's date: the switch's clock may say anything."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.database.pool import Pool
from app.messages import baseline, heard
from app.messages.lost import left_file, mailbox_of
from tests.support.intake_under_test import DAY, IntakeUnderTest, until
from tests.support.switch_rows import ROOT, insert, insert_all, switch_row

ODD_DATES = {
    "20 minutes back": lambda: int(time.time()) - 1200,
    "hours back": lambda: int(time.time()) - 5 * 3600,
    "a week back": lambda: int(time.time()) - 7 * DAY,
    "1970": lambda: 0,
    "none": lambda: None,
    "a year ahead": lambda: int(time.time()) + 365 * DAY,
}


@pytest.fixture
async def make(pool: Pool, tmp_path: Path) -> Callable[..., IntakeUnderTest]:
    await pool.execute("CREATE TABLE announced (id uuid PRIMARY KEY, file_path text)")
    return lambda **settings: IntakeUnderTest(pool, tmp_path, **settings)


@pytest.fixture
async def world(make: Callable[..., IntakeUnderTest]) -> IntakeUnderTest:
    return make()


def leave_file(world: IntakeUnderTest, file_path: str, *, age: float = 0.0) -> Path:
    """The recording of a row, written to so many seconds ago."""
    path = world.paths.root / file_path.removeprefix(ROOT + "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF....WAVE")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize("date", ODD_DATES.values(), ids=ODD_DATES.keys())
async def test_an_old_row_is_no_news_at_the_first_start_whatever_its_date(
    world: IntakeUnderTest, pool: Pool, date: Callable[[], int]
) -> None:
    row = switch_row(created_epoch=date())
    leave_file(world, row["file_path"])
    await insert(pool, row)

    await world.intake.step()
    await world.intake.step()

    assert await world.announced() == []
    assert set(await world.recorded()) == {row["file_path"]}
    assert await pool.fetchval("SELECT count(*) FROM voicemail.baseline") == 0


@pytest.mark.parametrize("date", ODD_DATES.values(), ids=ODD_DATES.keys())
async def test_a_row_of_any_date_is_met_by_its_recordings_name_at_once(
    make: Callable[..., IntakeUnderTest], pool: Pool, date: Callable[[], int]
) -> None:
    world = make(full=3600.0)
    world.intake._timer = 3600.0
    async with world.running():
        await until(lambda: pool.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"))
        row = switch_row(created_epoch=date())
        leave_file(world, row["file_path"])
        world.intake.hint_local([row["file_path"].removeprefix(ROOT + "/")])
        await insert(pool, row)

        await until(world.announced, 10.0)

    assert await world.announced() == [row["file_path"]]


async def test_a_row_that_comes_long_after_its_hint_is_met_all_the_same(make: Callable[..., IntakeUnderTest], pool: Pool) -> None:
    world = make(full=3600.0)
    world.intake._timer = 3600.0
    async with world.running():
        await until(lambda: pool.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"))
        row = switch_row(created_epoch=int(time.time()) - 5 * 3600)
        world.intake.hint([row["file_path"]])
        await until(lambda: _true(not world.intake._delays), 10.0)
        await insert(pool, row)

        await until(world.announced, 10.0)


async def _true(value: bool) -> bool:
    return value


async def test_a_path_with_two_slashes_is_learned_from_the_switchs_rows(make: Callable[..., IntakeUnderTest], pool: Pool) -> None:
    world = make(full=3600.0)
    double = ROOT + "//lab.local/101/msg_{}.wav"
    await insert(pool, switch_row(file_path=double.format(1)))
    world.intake._timer = 3600.0
    async with world.running():
        await until(lambda: pool.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"))
        world.intake.wake()
        await until(lambda: _true(not world.intake._delays), 10.0)
        world.intake.hint_local(["lab.local/101/msg_2.wav"])
        await insert(pool, switch_row(file_path=double.format(2), created_epoch=int(time.time()) - 5 * 3600))

        await until(world.announced, 10.0)


async def test_after_an_outage_a_fresh_file_or_an_event_makes_a_row_new_whatever_its_date(
    make: Callable[..., IntakeUnderTest], pool: Pool
) -> None:
    await make().intake.step()
    world = make(max_age=3600)
    long_ago = int(time.time()) - 30 * DAY
    fresh, stale, gone, told, future = (switch_row(created_epoch=long_ago) for _ in range(5))
    future["created_epoch"] = int(time.time()) + DAY
    leave_file(world, fresh["file_path"])
    for row in (stale, told, future):
        leave_file(world, row["file_path"], age=30 * DAY)
    address = mailbox_of(told["file_path"], world.paths)
    assert address is not None
    async with pool.acquire() as connection:
        await heard.put(connection, [left_file(told["file_path"], address, created_epoch=1)], due_in=60)
    await insert(pool, fresh, stale, gone, told, future)

    await world.intake.step()

    assert set(await world.announced()) == {fresh["file_path"], told["file_path"], future["file_path"]}
    assert len(await world.recorded()) == 5


async def test_killed_before_the_baseline_was_written_the_next_start_tells_old_from_new(
    make: Callable[..., IntakeUnderTest], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [switch_row(created_epoch=int(time.time()) + shift) for shift in (-5000, 0, 365 * DAY)]
    heard_meanwhile = switch_row(created_epoch=int(time.time()) + 500)
    await insert(pool, *old, heard_meanwhile)
    with monkeypatch.context() as dying:
        dying.setattr(baseline, "ADD", "SELECT 1 / 0, $1::bytea[]")
        with pytest.raises(Exception, match="DivisionByZeroError"):
            await make().intake.step()
    new = [switch_row(created_epoch=int(time.time()) + shift) for shift in (-5 * 3600, 0, 365 * DAY)]
    await insert(pool, *new)
    await pool.execute("UPDATE voicemail_msgs SET read_epoch = 1 WHERE file_path = $1", heard_meanwhile["file_path"])

    world = make()
    await world.intake.step()

    assert sorted(await world.announced()) == sorted(row["file_path"] for row in new)
    assert len(await world.recorded()) == 7


async def test_what_arrives_while_the_old_rows_are_recorded_is_new_also_after_a_kill(
    make: Callable[..., IntakeUnderTest], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    await insert_all(pool, [switch_row(created_epoch=now - 5000 + number % 9000) for number in range(3000)])
    first = make()
    recorded = 0
    record = first.registry._record_batch

    async def dying(rows: object) -> object:
        nonlocal recorded
        recorded += 1
        if recorded == 3:
            raise OSError("killed")
        return await record(rows)  # type: ignore[arg-type]

    monkeypatch.setattr(first.registry, "_record_batch", dying)
    with pytest.raises(OSError, match="killed"):
        await first.intake.step()
    new = [switch_row(created_epoch=now + shift) for shift in (-9000, 0, 9000)]
    await insert(pool, *new)

    await make().intake.step()

    assert sorted(await first.announced()) == sorted(row["file_path"] for row in new)
    assert len(await first.recorded()) == 3003
    assert await pool.fetchval("SELECT count(*) FROM voicemail.baseline") == 0


async def test_a_request_that_meets_old_rows_during_the_first_look_makes_them_no_news(world: IntakeUnderTest, pool: Pool) -> None:
    row = switch_row(created_epoch=int(time.time()) + DAY)
    await insert(pool, row)
    await world.registry.begin()

    async with pool.acquire() as connection:
        from app.switch.tables import messages as store

        rows = await store.with_files(connection, [row["file_path"]])
    await world.registry.record(rows)
    await world.intake.step()

    assert await world.announced() == []


async def test_two_first_starts_at_once_take_one_baseline(make: Callable[..., IntakeUnderTest], pool: Pool) -> None:
    await insert_all(pool, [switch_row(created_epoch=int(time.time()) + 60) for _ in range(500)])

    worlds = [make() for _ in range(3)]
    for world in worlds:
        await world.intake.step()

    assert await worlds[0].announced() == []
    assert len(await worlds[0].recorded()) == 500


@pytest.mark.parametrize("number", [1, 3, 700, 2**32 - 1])
async def test_a_row_id_is_read_as_the_largest_below_the_next_transaction(pool: Pool, number: int) -> None:
    expression = "$1::bigint - (($1::bigint - $2::bigint) & 4294967295)"
    newest = 5 * 2**32 + 700

    full = await pool.fetchval(f"SELECT {expression}", newest, number)

    assert full % 2**32 == number
    assert newest - 2**32 < full <= newest
    assert expression.replace("$1::bigint", "newest.id").replace("$2::bigint", "r.xmin::text::bigint") in baseline.BEFORE_SNAPSHOT
