"""New messages are found whatever the events say, each is news once, and old ones never."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from app.database.pool import Pool
from app.errors import Unavailable
from app.recordings.files import Interrupted
from app.sandbox.tables import TABLES
from tests.support.intake_under_test import DAY, IntakeUnderTest, until
from tests.support.switch_rows import DOMAIN, ROOT, insert, insert_all, switch_row

SAMPLE = Path(__file__).parents[3] / "app/sandbox/recordings/msg_ec3e1941-405a-479e-b1e1-fb3cb69ef20c.wav"
CUT_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.fixture
async def make(pool: Pool, tmp_path: Path) -> Callable[..., IntakeUnderTest]:
    await pool.execute("CREATE TABLE announced (id uuid PRIMARY KEY, file_path text)")
    return lambda **settings: IntakeUnderTest(pool, tmp_path, **settings)


@pytest.fixture
async def world(make: Callable[..., IntakeUnderTest]) -> IntakeUnderTest:
    return make()


async def test_ten_thousand_old_messages_are_recorded_and_none_is_announced(world: IntakeUnderTest, pool: Pool) -> None:
    now = int(time.time())
    await insert_all(pool, [switch_row(created_epoch=now - 60 - number % 5000) for number in range(10_000)])

    await world.intake.step()

    assert len(await world.recorded()) == 10_000
    assert await world.announced() == []


async def test_a_message_left_after_the_start_is_announced_once(world: IntakeUnderTest, pool: Pool) -> None:
    await world.intake.step()
    row = switch_row()
    await insert(pool, row)

    for _ in range(3):
        await world.intake.step()

    assert await world.announced() == [row["file_path"]]
    assert await world.recorded() == {row["file_path"]: UUID(row["uuid"])}


async def test_a_message_left_while_the_old_ones_are_still_being_recorded_is_announced(
    world: IntakeUnderTest, pool: Pool
) -> None:
    await insert(pool, switch_row(created_epoch=int(time.time()) - 100))
    await world.registry.begin()
    new = [switch_row(created_epoch=int(time.time()) + shift) for shift in (1, -3 * 3600)]
    await insert(pool, *new)

    await world.intake.step()

    assert sorted(await world.announced()) == sorted(row["file_path"] for row in new)


async def test_messages_left_while_the_service_was_down_are_announced_up_to_an_age(
    make: Callable[..., IntakeUnderTest], pool: Pool
) -> None:
    await make().intake.step()
    now = int(time.time())
    young, old = switch_row(created_epoch=now - 3000), switch_row(created_epoch=now - 4000)
    await insert(pool, young, old)

    world = make(max_age=3600)
    await world.intake.step()

    assert await world.announced() == [young["file_path"]]
    assert set(await world.recorded()) == {young["file_path"], old["file_path"]}


async def test_a_row_that_appears_with_an_old_date_is_found_by_a_look_at_all(world: IntakeUnderTest, pool: Pool) -> None:
    await insert(pool, switch_row(created_epoch=int(time.time()) - 60))
    await world.intake.step()
    late = switch_row(created_epoch=int(time.time()) - 3 * 3600)
    await insert(pool, late)

    world.intake.wake(full=True)
    await world.intake.step()

    assert await world.announced() == [late["file_path"]]


@pytest.mark.parametrize("jump", [10 * 365 * DAY, -600])
async def test_a_clock_that_jumps_hides_nothing_that_comes_after(world: IntakeUnderTest, pool: Pool, jump: int) -> None:
    await world.intake.step()
    jumped, after = switch_row(created_epoch=int(time.time()) + jump), switch_row()

    await insert(pool, jumped)
    await world.intake.step()
    await insert(pool, after)
    await world.intake.step()

    assert set(await world.announced()) == {jumped["file_path"], after["file_path"]}


async def test_a_switch_whose_clock_is_an_hour_behind_is_followed(world: IntakeUnderTest, pool: Pool) -> None:
    await insert(pool, switch_row(created_epoch=int(time.time()) - 3700))
    await world.intake.step()
    behind = switch_row(created_epoch=int(time.time()) - 3600)
    await insert(pool, behind)

    await world.intake.step()

    assert behind["file_path"] in await world.recorded()


async def test_a_message_flagged_deleted_before_it_was_seen_is_not_announced(world: IntakeUnderTest, pool: Pool) -> None:
    await world.intake.step()
    await insert(pool, switch_row(flags="delete"), saved := switch_row(flags="save"))

    await world.intake.step()

    assert await world.announced() == [saved["file_path"]]


async def test_thousands_of_messages_at_once_are_all_announced(world: IntakeUnderTest, pool: Pool) -> None:
    await world.intake.step()
    rows = [switch_row() for _ in range(3000)]
    await insert_all(pool, rows)

    await world.intake.step()

    assert sorted(await world.announced()) == sorted(row["file_path"] for row in rows)


async def test_rows_with_nothing_in_them_are_recorded_and_no_news(world: IntakeUnderTest, pool: Pool) -> None:
    await world.intake.step()
    nothing: dict[str, Any] = dict.fromkeys(switch_row())
    await insert(pool, nothing, nothing | {"created_epoch": -5}, nothing | {"username": "101", "created_epoch": 0})

    world.intake.wake(full=True)
    await world.intake.step()

    assert await pool.fetchval("SELECT count(*) FROM voicemail.message") == 2
    assert await world.announced() == []


async def test_rows_that_share_a_uuid_get_ids_of_their_own_that_stay(world: IntakeUnderTest, pool: Pool) -> None:
    shared = str(uuid4())
    first = switch_row(uuid=shared, created_epoch=1000, username="101")
    copies = [switch_row(uuid=shared, created_epoch=1001, username=name) for name in ("102", "103")]
    await insert(pool, *copies, first)

    await world.intake.step()
    before = await world.recorded()
    await pool.execute("DELETE FROM voicemail_msgs WHERE username = '101'")
    world.intake.wake(full=True)
    await world.intake.step()

    assert before[first["file_path"]] == UUID(shared)
    assert len(set(before.values())) == 3
    assert {before[copy["file_path"]].version for copy in copies} == {5}
    assert await world.recorded() == before


async def test_what_is_no_uuid_still_gets_an_id(world: IntakeUnderTest, pool: Pool) -> None:
    odd = ["", "not-a-uuid", "x" * 255, "{" + str(uuid4()) + "}", "Nguyễn 🎉 %0A ${x} <b>"]
    await insert(pool, *(switch_row(uuid=text) for text in odd))

    await world.intake.step()

    assert {id_.version for id_ in (await world.recorded()).values()} == {5}


async def test_an_announcement_that_fails_leaves_the_message_unrecorded_for_the_next_look(
    world: IntakeUnderTest, pool: Pool
) -> None:
    await world.intake.step()
    await insert(pool, row := switch_row())
    world.broken = Unavailable("not now")

    with pytest.raises(Unavailable):
        await world.intake.step()
    recorded_meanwhile = await world.recorded()
    world.broken = None
    await world.intake.step()

    assert recorded_meanwhile == {}
    assert await world.announced() == [row["file_path"]]


async def test_many_intakes_at_once_announce_each_message_once(make: Callable[..., IntakeUnderTest], pool: Pool) -> None:
    await make().intake.step()
    shared = str(uuid4())
    rows = [switch_row(uuid=shared if number % 10 == 0 else str(uuid4())) for number in range(300)]
    await insert_all(pool, rows)

    worlds = [make() for _ in range(4)]
    await asyncio.gather(*(world.intake.step() for world in worlds))

    assert sorted(await worlds[0].announced()) == sorted(row["file_path"] for row in rows)
    assert len(set((await worlds[0].recorded()).values())) == 300


async def test_a_hint_that_comes_before_the_row_is_enough(make: Callable[..., IntakeUnderTest], pool: Pool) -> None:
    world = make()
    world.intake._timer = 3600.0
    async with world.running():
        await until(lambda: pool.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"))
        world.intake.wake()
        await asyncio.sleep(0.02)
        await insert(pool, row := switch_row())

        await until(world.announced)

    assert await world.announced() == [row["file_path"]]


async def test_without_any_hint_the_timer_finds_it(world: IntakeUnderTest, pool: Pool) -> None:
    async with world.running():
        await until(lambda: pool.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"))
        await insert(pool, switch_row())

        await until(world.announced)


async def test_a_table_that_is_not_there_yet_is_waited_for(world: IntakeUnderTest, pool: Pool) -> None:
    await pool.execute("DROP TABLE voicemail_msgs, voicemail_prefs")
    with capture_logs() as logs:
        async with world.running():
            await until(lambda: _true(any(line["event"] == "intake_waiting" for line in logs)))
            await pool.execute(TABLES.read_text())
            await insert(pool, late := switch_row(created_epoch=int(time.time()) - 500), new := switch_row())

            await until(lambda: _longer(world, 1))

    # Both came after the first start: the table that was not there held nothing old.
    assert set(await world.announced()) == set(await world.recorded()) == {late["file_path"], new["file_path"]}
    assert sum(line["event"] == "intake_waiting" for line in logs) == 1


async def test_a_table_that_the_switch_drops_and_creates_anew_loses_no_later_message(world: IntakeUnderTest, pool: Pool) -> None:
    async with world.running():
        await until(lambda: pool.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"))
        await insert(pool, before := switch_row())
        await until(world.announced)

        await pool.execute("DROP TABLE voicemail_msgs, voicemail_prefs")
        await pool.execute(TABLES.read_text())
        await insert(pool, after := switch_row())
        await until(lambda: _longer(world, 1))

    assert sorted(await world.announced()) == sorted([before["file_path"], after["file_path"]])


async def test_connections_that_are_cut_delay_but_lose_nothing(world: IntakeUnderTest, pool: Pool, postgres: str) -> None:
    await world.registry.begin()
    async with world.running():
        for number in range(3):
            await pool.execute(CUT_OTHERS)
            await insert(pool, switch_row(created_epoch=int(time.time()) + 1))
            await until(lambda number=number: _longer(world, number))

    assert len(await world.announced()) == 3


async def _true(value: bool) -> bool:
    return value


async def _longer(world: IntakeUnderTest, than: int) -> bool:
    return len(await world.announced()) > than


async def test_a_new_messages_recording_is_known_at_once(world: IntakeUnderTest, pool: Pool, tmp_path: Path) -> None:
    await world.intake.step()
    row = switch_row()
    path = tmp_path / row["file_path"].removeprefix(ROOT + "/")
    path.parent.mkdir(parents=True)
    path.write_bytes(
        (Path(__file__).parents[3] / "app/sandbox/recordings/msg_ec3e1941-405a-479e-b1e1-fb3cb69ef20c.wav").read_bytes()
    )
    await insert(pool, row)

    await world.intake.step()
    await world.index.read_named()

    assert await pool.fetchval("SELECT duration FROM voicemail.recording") == 10.4
    assert (
        await pool.fetchval("SELECT r.size FROM voicemail.message m JOIN voicemail.recording r ON r.path = m.recording") == 166646
    )
    assert DOMAIN in row["file_path"]


@pytest.mark.parametrize("size", [100 * 2**20, 300 * 2**30, 8 * 2**40])
async def test_a_recording_of_any_size_holds_up_no_other_message(
    world: IntakeUnderTest, pool: Pool, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file takes no room on the disk and is read like any other. The disk of the smallest one here never answers."""
    if size < 2**30:
        monkeypatch.setattr("app.recordings.files._digest", _never)
    await world.intake.step()
    sparse, other = switch_row(), switch_row()
    path = tmp_path / sparse["file_path"].removeprefix(ROOT + "/")
    path.parent.mkdir(parents=True)
    path.write_bytes(SAMPLE.read_bytes()[:44])
    try:
        os.truncate(path, size)
    except OSError:
        pytest.skip("the file system has no files of this size")

    async with world.running():
        for number, row in enumerate((switch_row(), sparse, other)):  # the first one ends the look at the whole table
            await insert(pool, row)
            world.intake.hint([row["file_path"]])
            await until(lambda number=number: _longer(world, number))

        if size >= 2**30:
            await until(lambda: pool.fetchval("SELECT true FROM voicemail.recording WHERE size = $1 AND sha256 IS NULL", size))
        else:
            assert not await pool.fetchval("SELECT count(*) FROM voicemail.recording")


def _never(_file: object, stop: Callable[[], bool]) -> None:
    """A digest that goes on until it is asked to stop."""
    while not stop():
        time.sleep(0.01)
    raise Interrupted
