"""A page is answered again only while nothing was committed: whoever saw a commit never gets a page from before it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from access_tokens import make_token
from pbx import Site
from switch_rows import insert, switch_row

from app.database.pool import Pool
from app.database.snapshot import Snapshots
from app.messages.unchanged import UnchangedPages


@pytest.fixture
async def snapshots(database: str) -> AsyncIterator[Snapshots]:
    snapshots = Snapshots([database, database])
    yield snapshots
    await snapshots.close()


async def test_the_snapshot_is_the_same_until_something_is_committed(snapshots: Snapshots, pool: Pool) -> None:
    await pool.execute("CREATE TABLE t (n int)")
    first = await snapshots.current()
    assert first
    assert await snapshots.current() == first
    await pool.fetch("SELECT * FROM t")
    assert await snapshots.current() == first

    seen = {first}
    for statement in (
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET n = 2",
        "DELETE FROM t",
        "TRUNCATE t",
        "ALTER TABLE t ADD m int",
        "DROP TABLE t",
    ):
        await pool.execute(statement)
        now = await snapshots.current()
        assert now not in seen, statement
        seen.add(now)


async def test_a_long_transaction_changes_it_when_it_commits(snapshots: Snapshots, database: str, pool: Pool) -> None:
    await pool.execute("CREATE TABLE t (n int)")
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("INSERT INTO t VALUES (1)")
    await pool.execute("INSERT INTO t VALUES (2)")
    before = await snapshots.current()
    assert await snapshots.current() == before

    await transaction.commit()

    assert await snapshots.current() != before
    await other.close()


async def test_without_a_server_there_is_no_snapshot_and_every_page_is_made(unused_port: int) -> None:
    snapshots = Snapshots([f"postgresql://nobody@127.0.0.1:{unused_port}/none"])
    made = 0

    async def make() -> bytes:
        nonlocal made
        made += 1
        return b"page"

    pages = UnchangedPages(snapshots)
    assert await snapshots.current() is None
    assert [await pages.get("key", make) for _ in range(3)] == [b"page"] * 3
    assert made == 3


async def test_nothing_is_compared_across_connections(snapshots: Snapshots, pool: Pool) -> None:
    before = await snapshots.current()
    await pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicemail snapshot'")

    found = [await snapshots.current() for _ in range(3)]

    assert before not in found
    assert found[-1] is not None


class Told:
    """A source that says what it is told to."""

    def __init__(self) -> None:
        self.snapshot: str | None = "1"

    async def current(self) -> str | None:
        """What it was told."""
        return self.snapshot


async def test_pages_are_made_once_a_snapshot_and_forgotten_with_it() -> None:
    told, made = Told(), []
    pages = UnchangedPages(told)

    async def get(key: str) -> bytes:
        async def make() -> bytes:
            made.append(key)
            return f"{key} of {told.snapshot}".encode()

        return await pages.get(key, make)

    assert [await get("a"), await get("b"), await get("a")] == [b"a of 1", b"b of 1", b"a of 1"]
    told.snapshot = "2"
    assert await get("a") == b"a of 2"
    told.snapshot = "1"  # never on a real server; even so nothing old comes back
    assert await get("a") == b"a of 1"
    assert made == ["a", "b", "a", "a"]


async def test_a_page_that_was_being_made_when_the_snapshot_changed_is_not_kept() -> None:
    told = Told()
    pages = UnchangedPages(told)
    going_on = asyncio.Event()

    async def slow() -> bytes:
        await going_on.wait()
        return b"old"

    async def new() -> bytes:
        return b"new"

    late = asyncio.ensure_future(pages.get("a", slow))
    await asyncio.sleep(0.01)
    told.snapshot = "2"
    assert await pages.get("b", new) == b"new"
    going_on.set()

    assert await late == b"old"
    assert await pages.get("a", new) == b"new"


async def test_pages_take_no_more_memory_than_allowed() -> None:
    pages = UnchangedPages(Told(), most=1000)

    async def make() -> bytes:
        return b"x" * 300

    for number in range(100):
        await pages.get(number, make)
        assert sum(len(page) for page in pages._pages.values()) == pages._size <= 1000

    async def large() -> bytes:
        return b"x" * 1001

    assert len(await pages.get("large", large)) == 1001
    assert pages._size <= 1000


async def test_whoever_saw_a_commit_sees_it_in_the_list(stand_in_site: Site, pool: Pool) -> None:
    """Readers all the time, so that every kind of page is there to be answered again; each writer then reads its own row."""
    site = stand_in_site
    over = False

    async def read() -> None:
        while not over:
            await site.get("/v1/voicemail/message?limit=50")

    async def write(extension: str) -> None:
        path = f"/v1/voicemail/message?extension={extension}&limit=1000"
        for number in range(1, 31):
            row = switch_row(username=extension, uuid=str(uuid4()))
            await insert(pool, row)
            page = await site.get(path)
            assert page["total"] == len(page["data"]) == number
            assert row["uuid"] in {message["id"] for message in page["data"]}
            assert await site.get(path) == page
        await pool.execute("DELETE FROM voicemail_msgs WHERE username = $1", extension)
        assert (await site.get(path))["total"] == 0

    readers = [asyncio.ensure_future(read()) for _ in range(6)]
    await asyncio.gather(*(write(str(extension)) for extension in range(201, 206)))
    over = True
    await asyncio.gather(*readers)


async def test_a_page_is_not_shown_to_a_token_of_another_domain(stand_in_site: Site, pool: Pool) -> None:
    await insert(pool, switch_row())
    other = await make_token(stand_in_site.dsn, "other", ["elsewhere.example"])

    for _ in range(3):
        assert (await stand_in_site.get("/v1/voicemail/message"))["total"] == 1
        async with stand_in_site.client.get("/v1/voicemail/message", headers={"Authorization": f"Bearer {other}"}) as answer:
            assert (await answer.json())["total"] == 0
    async with stand_in_site.client.get("/v1/voicemail/message", headers={"Host": "elsewhere.example"}) as answer:
        (message,) = (await answer.json())["data"]
    assert message["download_url"].startswith("http://elsewhere.example/")
