"""Connections that only read: nothing is left behind in them, and no caller is given another's rows."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.database.pool import Pool
from app.database.readers import Readers
from app.errors import DatabaseUnavailable, MissingTable
from app.messages import pages
from app.switch.tables.indexes import Indexes

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicemail test readers'"
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'voicemail test readers'"


@pytest.fixture
async def readers(database: str) -> AsyncIterator[Readers]:
    readers = Readers(database, size=3, application_name="test readers")
    yield readers
    await readers.close()


async def test_nothing_can_be_written(readers: Readers) -> None:
    with pytest.raises(DatabaseUnavailable):
        await readers.fetch("INSERT INTO voicemail.installation VALUES ('a', '1')")

    assert await readers.fetchval("SELECT count(*) FROM voicemail.installation") == 0


async def test_rows_come_by_statement_and_arguments(readers: Readers) -> None:
    assert [tuple(row) for row in await readers.fetch("SELECT n, n * $1 FROM generate_series(1, 2) n", 5)] == [(1, 5), (2, 10)]
    assert await readers.fetchval("SELECT 1 WHERE false") is None
    assert tuple(await readers.fetchrow("SELECT 1, 2")) == (1, 2)


async def test_there_are_never_more_connections_than_allowed_and_all_are_answered(readers: Readers, pool: Pool) -> None:
    found = await asyncio.gather(*(readers.fetchval("SELECT $1::int FROM pg_sleep(0.01)", number) for number in range(40)))

    assert found == list(range(40))
    assert await pool.fetchval(COUNT) == 3


async def test_a_statement_that_the_server_refuses_costs_no_connection(readers: Readers) -> None:
    process = await readers.fetchval("SELECT pg_backend_pid()")
    for _ in range(3):
        with pytest.raises(MissingTable):
            await readers.fetch("SELECT * FROM nowhere")

    assert await readers.fetchval("SELECT pg_backend_pid()") == process


async def test_a_caller_that_is_cancelled_leaves_no_rows_for_the_next(readers: Readers) -> None:
    for number in range(5):
        late = asyncio.ensure_future(readers.fetchval("SELECT -1 FROM pg_sleep(0.05)"))
        await asyncio.sleep(0.01)
        late.cancel()
        assert await readers.fetchval("SELECT $1::int", number) == number
        with pytest.raises(asyncio.CancelledError):
            await late

    assert await asyncio.gather(*(readers.fetchval("SELECT $1::int", number) for number in range(20))) == list(range(20))


async def test_connections_that_are_cut_are_made_anew(readers: Readers, pool: Pool) -> None:
    for _ in range(3):
        await asyncio.gather(*(readers.fetchval("SELECT 1 FROM pg_sleep(0.01)") for _ in range(3)))
        await pool.execute(CUT)
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await readers.fetchval("SELECT 7") == 7
                    break
                except DatabaseUnavailable:
                    await asyncio.sleep(0.01)


async def test_a_database_that_is_away_is_unavailable(unused_port: int) -> None:
    readers = Readers(f"postgresql://someone:secret@127.0.0.1:{unused_port}/x", size=2, application_name="test readers")

    for _ in range(5):
        with pytest.raises(DatabaseUnavailable):
            await readers.fetch("SELECT 1")
    await readers.close()


async def test_after_closing_no_connection_is_left(database: str, pool: Pool) -> None:
    readers = Readers(database, size=3, application_name="test readers")
    reading = asyncio.ensure_future(readers.fetchval("SELECT 1 FROM pg_sleep(0.1)"))
    await readers.fetchval("SELECT 1")
    await readers.close()
    await reading

    async with asyncio.timeout(5):
        while await pool.fetchval(COUNT):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("statement", [pages.OF_MAILBOX, pages.OF_DOMAIN], ids=["mailbox", "domain"])
async def test_a_list_walks_the_indexes_that_are_made_for_it(readers: Readers, pool: Pool, statement: str) -> None:
    """Also where PostgreSQL knows nothing of the table yet, as after a large import."""
    await Indexes(pool).ensure()
    await pool.execute(
        "INSERT INTO voicemail_msgs SELECT n, 0, (n % 50)::text, 'lab.local', gen_random_uuid(), 'A', '1', 'inbox', n::text, 1, '', '', ''"
        " FROM generate_series(1, 20000) n"
    )
    kinds = "text, text, bigint, bigint" if "$4" in statement else "text, bigint, bigint"
    values = "'7', 'lab.local', 50, 0" if "$4" in statement else "'lab.local', 50, 0"
    connection = await asyncpg.connect(readers._dsn, server_settings=readers._settings)
    await connection.execute(f"PREPARE page ({kinds}) AS {statement}")
    for analysed in (False, True):
        if analysed:
            await pool.execute("ANALYZE voicemail_msgs")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE page ({values})"))
        assert "voicemail_msgs_api_" in plan
        assert "message_row" in plan
        assert "Seq Scan on voicemail_msgs" not in plan
        assert " Sort  (" not in plan.replace("Incremental Sort  (", "")
    await connection.close()
