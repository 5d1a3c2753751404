"""Connections: what callers get while the database is away, and that they work again when it is back."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.database.pool import Connection, Pool, connect, open_pool
from app.embedded.postgres import EmbeddedPostgres
from app.errors import (
    DatabaseRefused,
    DatabaseUnavailable,
    MissingColumn,
    MissingRight,
    MissingTable,
    UnfitValue,
    UniqueViolated,
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of the test's own, to be stopped and started."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    yield server
    await server.stop()


async def answers(pool: Pool) -> bool:
    """Whether a statement works; only the exceptions that say "away" are taken for no."""
    try:
        return bool(await pool.fetchval("SELECT true"))
    except DatabaseUnavailable:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["fast", "immediate", "killed"])
async def test_statements_while_the_server_goes_and_comes_fail_as_unavailable_only(
    server: EmbeddedPostgres, tmp_path: Path, how: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dsn = await server.start()
    pool = await open_pool(dsn, size=4, application_name="test")
    away = asyncio.Event()

    async def use() -> None:
        while True:
            if not await answers(pool):
                away.set()
            await asyncio.sleep(0.001)

    users = [asyncio.create_task(use()) for _ in range(8)]
    assert await answers(pool)
    os.kill(int((tmp_path / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0]), how)
    await asyncio.wait_for(away.wait(), 10)
    await server.stop()
    assert await server.start() == dsn
    async with asyncio.timeout(10):
        while not await answers(pool):
            await asyncio.sleep(0.01)

    assert [user for user in users if user.done()] == []
    for user in users:
        user.cancel()
    await asyncio.wait(users)
    pool.terminate()
    assert [record for record in caplog.records if record.name.startswith("asyncpg")] == []


async def test_a_pool_can_be_opened_while_the_database_is_away(unused_port: int) -> None:
    pool = await open_pool(f"postgresql://someone:secret@127.0.0.1:{unused_port}/x", application_name="test")

    assert not await answers(pool)
    await pool.close()


async def test_a_server_that_accepts_and_says_nothing_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.database.pool.CONNECT_TIMEOUT", 0.2)
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]

    with pytest.raises(DatabaseUnavailable):
        await connect(f"postgresql://someone:secret@127.0.0.1:{port}/x", application_name="test")
    silent.close()


async def test_mistakes_are_not_taken_for_an_outage(pool: Pool) -> None:
    with pytest.raises(MissingTable) as missing:
        await pool.fetch("SELECT 1 FROM nowhere")
    with pytest.raises(UniqueViolated) as doubled:
        await pool.execute("INSERT INTO voicemail.installation VALUES ('a', '1'), ('a', '2')")
    with pytest.raises(UnfitValue) as unfit:
        await pool.fetchval("SELECT $1::int", 2**40)
    with pytest.raises(MissingColumn):
        await pool.fetchrow("SELECT nothing FROM voicemail.installation")

    assert missing.value.sqlstate == "42P01"
    assert "nowhere" in missing.value.detail
    assert doubled.value.constraint_name == "installation_pkey"
    assert not isinstance(missing.value, DatabaseUnavailable)
    assert not isinstance(doubled.value, DatabaseUnavailable)
    assert not isinstance(unfit.value, DatabaseUnavailable)


async def test_a_refusal_holds_no_value_of_the_statement(pool: Pool) -> None:
    async def refused(statement: str, *arguments: object) -> DatabaseRefused:
        with pytest.raises(DatabaseRefused) as caught:
            await pool.execute(statement, *arguments)
        return caught.value

    found = [
        await refused("INSERT INTO voicemail.installation VALUES ($1, ''), ($1, '')", "s3cret"),
        await refused("SELECT 's3cret'::int"),
        await refused("DO $$ BEGIN RAISE EXCEPTION 's3cret'; END $$"),
        await refused("SELECT '{s3cret'::json"),
    ]

    assert [error for error in found if "s3cret" in f"{error} {error!r} {error.detail} {error.reason}"] == []


async def test_a_missing_right_is_told_apart(pool: Pool) -> None:
    with pytest.raises(MissingRight, match="permission denied"):
        await pool.execute("CREATE ROLE nobody_here SUPERUSER")


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "/a/file"), TimeoutError("of a mail server"), ValueError()]
)
async def test_what_other_code_raises_in_a_block_is_not_taken_for_the_database(pool: Pool, error: Exception) -> None:
    with pytest.raises(type(error)) as alone:
        async with pool.acquire():
            raise error
    with pytest.raises(type(error)) as inside:
        async with pool.acquire() as connection, connection.transaction():
            raise error

    assert alone.value is error
    assert inside.value is error
    assert await pool.fetchval("SELECT 1") == 1


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicemail to be cut'"


@pytest.mark.parametrize("what", ["fetch", "fetchrow", "fetchval", "execute", "executemany", "commit", "begin", "cursor"])
async def test_a_connection_that_ends_is_unavailable_to_everything_that_uses_it(database: str, pool: Pool, what: str) -> None:
    cut = await open_pool(database, size=1, application_name="to be cut")

    async def use(connection: Connection) -> None:
        if what == "executemany":
            await connection.executemany("SELECT $1::int", [(1,)])
        elif what == "begin":
            async with connection.transaction():
                pass
        elif what != "commit":
            await getattr(connection, what)("SELECT 1")

    async def in_transaction() -> None:
        async with cut.acquire() as connection, connection.transaction():
            cursor = await connection.open_cursor("SELECT 1")
            await pool.execute(CUT)
            if what == "cursor":
                await cursor.fetch(1)

    async def alone() -> None:
        async with cut.acquire() as connection:
            await pool.execute(CUT)
            await use(connection)

    with pytest.raises(DatabaseUnavailable):
        await (in_transaction() if what in ("commit", "cursor") else alone())
    async with asyncio.timeout(5):
        while not await answers(cut):
            await asyncio.sleep(0.01)
    await cut.close()


async def test_a_closed_connection_and_a_closed_pool_are_unavailable(database: str) -> None:
    connection = await connect(database, application_name="test")
    await connection.close()
    other = await open_pool(database, application_name="test")
    await other.close()

    for use in (
        lambda: connection.fetch("SELECT 1"),
        lambda: connection.transaction().__aenter__(),
        lambda: other.fetch("SELECT 1"),
    ):
        with pytest.raises(DatabaseUnavailable):
            await use()


async def test_a_refused_password_is_unavailable_and_its_reason_is_for_the_operator(database: str) -> None:
    place = urlsplit(database).netloc.rpartition("@")[2]

    with pytest.raises(DatabaseUnavailable) as caught:
        await connect(urlsplit(database)._replace(netloc=f"nobody_here:s3cret@{place}").geturl(), application_name="test")

    assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
    assert "nobody_here" not in caught.value.detail
    assert "s3cret" not in caught.value.reason


async def test_sessions_say_who_they_are_and_speak_utc(pool: Pool) -> None:
    row = await pool.fetchrow("SELECT current_setting('application_name'), current_setting('timezone'), current_setting('jit')")

    assert tuple(row) == ("voicemail test", "UTC", "off")
