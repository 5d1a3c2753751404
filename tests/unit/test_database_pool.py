"""Connections: what callers get while the database is away, and that they work again when it is back."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.database.pool import UNAVAILABLE, Pool, connect, is_unavailable, open_pool
from app.embedded.postgres import EmbeddedPostgres


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
    except UNAVAILABLE as error:
        if not is_unavailable(error):
            raise
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

    with pytest.raises(UNAVAILABLE):
        await connect(f"postgresql://someone:secret@127.0.0.1:{port}/x", application_name="test")
    silent.close()


async def test_mistakes_are_not_taken_for_an_outage(pool: Pool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError) as missing:
        await pool.fetch("SELECT 1 FROM nowhere")
    with pytest.raises(asyncpg.UniqueViolationError) as doubled:
        await pool.execute("INSERT INTO voicemail.installation VALUES ('a', '1'), ('a', '2')")

    with pytest.raises(asyncpg.DataError) as unfit:
        await pool.fetchval("SELECT $1::int", 2**40)

    assert not isinstance(missing.value, UNAVAILABLE)
    assert not isinstance(doubled.value, UNAVAILABLE)
    assert not is_unavailable(unfit.value)
    assert not is_unavailable(FileNotFoundError(2, "No such file"))


async def test_sessions_say_who_they_are_and_speak_utc(pool: Pool) -> None:
    row = await pool.fetchrow("SELECT current_setting('application_name'), current_setting('timezone'), current_setting('jit')")

    assert tuple(row) == ("voicemail test", "UTC", "off")
