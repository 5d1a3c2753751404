"""Searches of voicemail_msgs: what they find, in which order, page by page while messages come and go, and by which index."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database.pool import Pool, open_pool
from app.database.readers import Readers
from app.sandbox.tables import TABLES
from app.switch.tables import search
from app.switch.tables.indexes import Indexes
from app.switch.tables.model import MessageRow
from app.switch.tables.search import Found, Search, Sort
from tests.support.databases import Databases
from tests.support.switch_rows import insert_all, switch_row

ROWS = 120_000
GENERATE = """
INSERT INTO voicemail_msgs (created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path,
    message_len, flags, read_flags, forwarded_by)
SELECT 1700000000 + n * 7, CASE WHEN n % 500 = 1 THEN 0 ELSE 1 END, (10000 + n % 1000)::text, CASE WHEN n % 50 = 0 THEN 'few' ELSE 'big' END,
    'u' || n, 'Caller ' || n % 5000, '089' || lpad((n % 50000)::text, 6, '0'), 'inbox', '/x/' || n, n % 120,
    CASE WHEN n % 200 = 0 THEN 'save' ELSE '' END, CASE WHEN n % 300 = 0 THEN 'A_URGENT' ELSE 'B_NORMAL' END, ''
FROM generate_series(1, $1) n
"""


class Switch:
    """The switch's tables in a database of the module's own."""

    def __init__(self, pool: Pool, readers: Readers, dsn: str) -> None:
        self.pool, self.readers, self.dsn = pool, readers, dsn

    async def find(self, wanted: Search, limit: int = 10, offset: int = 0) -> Found:
        """A page."""
        return await search.find(self.pool, self.readers, wanted, limit=limit, offset=offset)

    async def everything(self, wanted: Search, limit: int, between: Callable[[], Any] | None = None) -> list[MessageRow]:
        """All pages, one after the other, by their cursors."""
        found = await self.find(wanted, limit)
        rows = list(found.rows)
        while found.last is not None:
            assert len(found.rows) == limit
            if between is not None:
                await between()
            found = await self.find(replace(wanted, after=found.last), limit)
            rows += found.rows
        return rows


async def _open(databases: Databases) -> AsyncIterator[Switch]:
    dsn = await databases.lend()
    pool, readers = await open_pool(dsn, application_name="test"), Readers(dsn, size=2, application_name="test")
    try:
        yield Switch(pool, readers, dsn)
    finally:
        pool.terminate()
        await readers.close()
        await databases.take_back(dsn)


@pytest.fixture(scope="module")
async def empty(databases: Databases) -> AsyncIterator[Switch]:
    """For rows of a test's own."""
    async for switch in _open(databases):
        yield switch


@pytest.fixture(scope="module")
async def large(databases: Databases) -> AsyncIterator[Switch]:
    """With many rows that no test changes."""
    async for switch in _open(databases):
        made = [
            name for (name,) in await switch.pool.fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'voicemail_msgs'")
        ]
        await switch.pool.execute(f"DROP INDEX {', '.join(made)}")
        await switch.pool.execute(GENERATE, ROWS)
        await switch.pool.execute(TABLES.read_text())
        await Indexes(switch.pool).ensure()
        await switch.pool.execute("ANALYZE voicemail_msgs")
        yield switch


BIG = Search(domains=("big",))
FILTERS: dict[str, tuple[Search, str]] = {
    "one extension": (replace(BIG, extensions=("10007",)), "voicemail_msgs_api_mailbox"),
    "three extensions": (replace(BIG, extensions=("10007", "10008", "10009")), "voicemail_msgs_api_mailbox"),
    "unread": (replace(BIG, read=False), "voicemail_msgs_api_read"),
    "read in an hour": (replace(BIG, read=True, since=1_700_000_000, until=1_700_003_500), "Index"),
    "saved": (replace(BIG, saved=True), "voicemail_msgs_(api_saved|idx9)"),
    "urgent": (replace(BIG, urgent=True), "voicemail_msgs_(api_urgent|idx6)"),
    "since": (replace(BIG, since=1_700_800_000), "voicemail_msgs_(api_domain|idx1)"),
    "until": (replace(BIG, until=1_700_007_000), "voicemail_msgs_(api_domain|idx1)"),
    "a long message": (replace(BIG, min_duration=119), "voicemail_msgs_api_duration"),
    "a short message": (replace(BIG, max_duration=0), "voicemail_msgs_api_duration"),
}
MATCHES = {
    "one extension": lambda n: n % 1000 == 7, "three extensions": lambda n: n % 1000 in (7, 8, 9),
    "unread": lambda n: n % 500 == 1, "read in an hour": lambda n: n % 500 != 1 and n < 500, "saved": lambda n: n % 200 == 0, "urgent": lambda n: n % 300 == 0,
    "since": lambda n: n * 7 >= 800_000, "until": lambda n: n * 7 < 7000, "a long message": lambda n: n % 120 == 119,
    "a short message": lambda n: n % 120 == 0,
}  # fmt: skip


async def plan_of(switch: Switch, statement: str, values: Sequence[object], *, walking: bool) -> str:
    """The plan with which the service runs a statement."""
    connection = await asyncpg.connect(switch.dsn, server_settings=switch.readers._settings if walking else {})
    try:
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values))
    finally:
        await connection.close()


@pytest.mark.parametrize("name", FILTERS)
async def test_a_filter_finds_what_matches_by_its_index(large: Switch, name: str) -> None:
    wanted, index = FILTERS[name]
    expected = [n for n in range(1, ROWS + 1) if n % 50 and MATCHES[name](n)]

    found = await large.find(wanted, limit=5)
    plan = await plan_of(large, *search.few(wanted, 6, 0), walking=False)

    assert (found.total, found.exact) == (len(expected), True)
    assert [row.uuid for row in found.rows] == [f"u{n}" for n in sorted(expected, reverse=True)[:5]]
    assert re.search(index, plan), plan
    assert "Seq Scan on voicemail_msgs" not in plan


@pytest.mark.parametrize("text", ["089000007", "08900000", "CALLER 4999", "aller 49"])
async def test_a_caller_is_found_by_the_beginning_of_the_number_or_a_part_of_the_name(large: Switch, text: str) -> None:
    wanted = replace(BIG, caller=text)

    found = await large.find(wanted, limit=1000)
    plan = await plan_of(large, *search.few(wanted, 6, 0), walking=False)

    expected = [
        n for n in range(1, ROWS + 1)
        if n % 50 and (f"089{n % 50000:06}".startswith(text) or (not text.isdigit() and text.lower() in f"caller {n % 5000}"))
    ]  # fmt: skip
    assert expected
    assert (found.total, found.exact) == (len(expected), True)
    assert [row.uuid for row in found.rows] == [f"u{n}" for n in sorted(expected, reverse=True)[:1000]]
    if text.isdigit():
        assert "voicemail_msgs_api_caller" in plan
        assert "Seq Scan on voicemail_msgs" not in plan


MANY = {
    "read": replace(BIG, read=True), "not saved": replace(BIG, saved=False),
    "not urgent": replace(BIG, urgent=False), "long": replace(BIG, min_duration=30), "caller": replace(BIG, caller="089"),
}  # fmt: skip
WALKED = {
    Sort.NEWEST: "voicemail_msgs_api_", Sort.OLDEST: "voicemail_msgs_api_", Sort.LONGEST: "voicemail_msgs_api_duration",
    Sort.SHORTEST: "voicemail_msgs_api_duration", Sort.CALLER: "voicemail_msgs_api_caller",
    Sort.CALLER_BACKWARDS: "voicemail_msgs_api_caller",
}  # fmt: skip


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("name", MANY)
async def test_if_many_match_the_index_of_the_order_is_walked(large: Switch, name: str, sort: Sort) -> None:
    wanted = replace(MANY[name], sort=sort)

    first = await large.find(wanted, limit=5)
    assert first.last is not None
    for statement, values in (search.many(wanted, 6, 0), search.many(replace(wanted, after=first.last), 6, 0)):
        plan = await plan_of(large, statement, values, walking=True)
        assert WALKED[sort] in plan
        assert "Seq Scan on voicemail_msgs" not in plan
        assert not re.search(r"(?<!Incremental )Sort  \(", plan), plan

    assert (first.total, first.exact) == (search.COUNTED, False)


@pytest.mark.parametrize("sort", Sort)
async def test_pages_by_cursor_are_the_list_also_if_many_match(large: Switch, sort: Sort) -> None:
    wanted = replace(BIG, sort=sort, min_duration=105)  # which are 14,700 messages

    expected = (await large.find(wanted, limit=200)).rows
    by_cursor: list[MessageRow] = []
    found = await large.find(wanted, limit=40)
    for _ in range(5):
        by_cursor += found.rows
        found = await large.find(replace(wanted, after=found.last), limit=40)

    assert by_cursor == expected


def _sorted(rows: Sequence[dict[str, Any]], sort: Sort) -> list[str]:
    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        ties = (
            row["uuid"] is None,
            row["uuid"] or "",
            row["file_path"] is None,
            row["file_path"] or "",
            row["domain"],
            row["username"],
        )
        return {
            "created_at": (-row["created_epoch"], *ties),
            "duration": (-(row["message_len"] or 0), -row["created_epoch"], *ties),
            "caller": ((row["cid_number"] or "")[:32], -row["created_epoch"], *ties),
        }[sort.value.lstrip("-")]

    backwards = sort in (Sort.OLDEST, Sort.SHORTEST, Sort.CALLER_BACKWARDS)
    return [row["cid_name"] for row in sorted(rows, key=key, reverse=backwards)]


row_facts = st.fixed_dictionaries(
    {
        "created_epoch": st.integers(1, 3),
        "uuid": st.sampled_from([None, "a", "b"]),
        "file_path": st.sampled_from([None, "/1", "/2"]),
        "username": st.sampled_from(["7", "8"]),
        "domain": st.sampled_from(["a.example", "b.example"]),
        "message_len": st.sampled_from([None, 0, 5]),
        "cid_number": st.sampled_from([None, "", "1", "2" * 40]),
    }
)


@given(facts=st.lists(row_facts, min_size=1, max_size=14), sort=st.sampled_from(Sort), limit=st.integers(1, 5), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
async def test_a_cursor_neither_skips_nor_repeats_while_messages_come_and_go(
    empty: Switch, facts: list[dict[str, Any]], sort: Sort, limit: int, data: st.DataObject
) -> None:
    switch = empty
    await switch.pool.execute("TRUNCATE voicemail_msgs")
    rows = [switch_row(**fact, cid_name=f"row {number}") for number, fact in enumerate(facts)]
    identity = [tuple(row[name] for name in ("domain", "username", "uuid", "file_path", "created_epoch")) for row in rows]
    rows = [row for number, row in enumerate(rows) if identity[number] not in identity[:number]]
    await insert_all(switch.pool, rows)
    domains = data.draw(st.sampled_from([("a.example",), ("a.example", "b.example"), None]))
    wanted = Search(domains=domains, sort=sort)
    kept = [row for row in rows if domains is None or row["domain"] in domains]
    assert [row.caller_name for row in await switch.everything(wanted, limit)] == _sorted(kept, sort)

    gone: set[str] = set()
    came: list[str] = []

    async def change() -> None:
        if len(came) < 5 and data.draw(st.booleans()):
            fresh = switch_row(**data.draw(row_facts), cid_name=f"new {len(came)}")
            came.append(fresh["cid_name"])
            await insert_all(switch.pool, [fresh])
        if data.draw(st.booleans()):
            name = data.draw(st.sampled_from([row["cid_name"] for row in rows]))
            gone.add(name)
            await switch.pool.execute("DELETE FROM voicemail_msgs WHERE cid_name = $1", name)

    shown = [row.caller_name for row in await switch.everything(wanted, limit, change)]

    assert len(set(shown)) == len(shown)
    assert set(shown) <= {row["cid_name"] for row in kept} | set(came)
    stayed = [name for name in _sorted(kept, sort) if name not in gone]
    assert [name for name in shown if name in stayed] == stayed
