"""Migrations: applied once, in order, whole or not at all, and never on a schema they do not fit."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from app.database import migrations
from app.database.migrations import SchemaError, migrate, sql_folder
from app.database.pool import Connection, Pool, connect
from app.errors import DatabaseUnavailable
from app.jobs.queue import Jobs


@pytest.fixture
async def empty(postgres: str, database_numbers: "count[int]") -> AsyncIterator[str]:
    """The DSN of a database with nothing in it."""
    name = f"empty_{next(database_numbers)}"
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE {name}")
    yield f"{postgres.rpartition('/')[0]}/{name}"
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def connection(empty: str) -> AsyncIterator[Connection]:
    connection = await connect(empty, application_name="test")
    yield connection
    await connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small migrations."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE voicemail.first (id int);")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE voicemail.second (id int); INSERT INTO voicemail.second VALUES (1);")
    return tmp_path


async def tables(connection: Connection) -> set[str]:
    """The names of the service's tables."""
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'voicemail'")
    return {row["tablename"] for row in rows}


async def test_the_services_own_files_apply_and_a_second_run_does_nothing(empty: str) -> None:
    assert await migrate(empty) == sorted(path.name for path in sql_folder().glob("*.sql"))
    assert await migrate(empty) == []


async def test_the_queues_tables_are_what_the_installed_pgqueuer_wants(pool: Pool) -> None:
    async with pool.acquire() as connection:
        plan = await Jobs("unused")._queries(connection).plan_upgrade()

    assert (plan.statements, plan.notes) == ((), ())


async def test_files_are_applied_in_order_and_reported(connection: Connection, folder: Path) -> None:
    assert await migrate(connection, folder) == ["0001_first.sql", "0002_second.sql"]
    assert await tables(connection) == {"schema_migration", "first", "second"}


async def test_only_what_is_missing_is_applied(connection: Connection, folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0003_third.sql").write_text("CREATE TABLE voicemail.third (id int);")

    assert await migrate(connection, folder) == ["0003_third.sql"]


async def test_a_file_that_fails_leaves_nothing_of_itself_and_keeps_those_before(connection: Connection, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("CREATE TABLE voicemail.half (id int); INSERT INTO voicemail.nowhere VALUES (1);")

    with pytest.raises(SchemaError, match=r"0003_bad\.sql failed and nothing of it was applied: .*nowhere"):
        await migrate(connection, folder)
    assert await tables(connection) == {"schema_migration", "first", "second"}

    (folder / "0003_bad.sql").write_text("CREATE TABLE voicemail.half (id int);")
    assert await migrate(connection, folder) == ["0003_bad.sql"]


async def test_a_changed_file_is_refused(connection: Connection, folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE voicemail.first (id bigint);")

    with pytest.raises(SchemaError, match=r"0001_first\.sql was changed after it was applied"):
        await migrate(connection, folder)


async def test_a_schema_of_a_newer_release_is_refused(connection: Connection, folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0002_second.sql").unlink()

    with pytest.raises(SchemaError, match=r"has 0002_second\.sql.*newer release"):
        await migrate(connection, folder)


async def test_a_file_that_vanished_is_refused(connection: Connection, folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0001_first.sql").rename(folder / "0001_renamed.sql")

    with pytest.raises(SchemaError, match=r"has 0001_first\.sql.*restore that file"):
        await migrate(connection, folder)


async def test_a_gap_and_a_doubled_number_are_refused_before_anything_is_applied(connection: Connection, folder: Path) -> None:
    (folder / "0004_fourth.sql").write_text("SELECT 1;")
    with pytest.raises(SchemaError, match=r"0003.*near 0004_fourth\.sql"):
        await migrate(connection, folder)

    (folder / "0004_fourth.sql").rename(folder / "0002_twice.sql")
    with pytest.raises(SchemaError, match=r"near 0002_twice\.sql"):
        await migrate(connection, folder)

    assert await tables(connection) == set()


async def test_a_folder_without_migrations_is_refused(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "notes.sql").write_text("SELECT 1;")

    with pytest.raises(SchemaError, match="there are no migrations"):
        await migrate(connection, tmp_path)


async def test_four_starters_at_once_apply_each_file_once(empty: str, folder: Path) -> None:
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(0.1); CREATE TABLE voicemail.third (id int);")

    applied = await asyncio.gather(*(migrate(empty, folder) for _ in range(4)))

    assert sorted(applied) == [[], [], [], ["0001_first.sql", "0002_second.sql", "0003_slow.sql"]]


async def test_line_ends_of_another_system_are_no_change(connection: Connection, folder: Path) -> None:
    (folder / "0001_first.sql").write_bytes(b"CREATE TABLE\n voicemail.first (id int);\n")
    await migrate(connection, folder)
    (folder / "0001_first.sql").write_bytes(b"CREATE TABLE\r\n voicemail.first (id int);\r\n")

    assert await migrate(connection, folder) == []


async def test_a_server_that_is_too_old_is_named(connection: Connection, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "OLDEST_SERVER", 99)

    with pytest.raises(SchemaError, match=r"PostgreSQL \d+ is too old: 99 or newer is needed"):
        await migrate(connection, folder)
    assert await tables(connection) == set()


async def test_a_role_without_the_right_is_told_what_to_run(postgres: str, template: str) -> None:
    # template1 belongs to the superuser, and the role may only connect to it.
    dsn = f"{postgres.rpartition('/')[0]}/template1"

    with pytest.raises(SchemaError, match='CREATE SCHEMA voicemail AUTHORIZATION "voicemail"'):
        await migrate(dsn)


async def test_a_database_that_is_away_is_said_so(unused_port: int) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await migrate(f"postgresql://someone:secret@127.0.0.1:{unused_port}/x")

    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_told_without_it(postgres: str) -> None:
    wrong = f"postgresql://voicemail:wrongsecret@{postgres.rpartition('@')[2]}"

    with pytest.raises(DatabaseUnavailable, match="refused the connection") as caught:
        await migrate(wrong)

    assert "wrongsecret" not in str(caught.value)
