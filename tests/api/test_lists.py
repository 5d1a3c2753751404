"""Lists are read live in one statement, and every id in one can be fetched, whoever met the row first."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from app.access.grant import Grant
from app.access.scopes import ALL_SCOPES
from app.addressing import Domain, Extension, MailboxAddress
from app.database.migrations import migrate
from app.database.pool import Connection, Pool, open_pool
from app.database.readers import Readers
from app.errors import NotFound
from app.messages import pages
from app.messages.model import Message
from app.messages.pages import Lines as PageLines
from app.messages.registry import Registry
from app.messages.rendering import LineOut, Rendering
from app.messages.service import Messages
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.sandbox.tables import TABLES
from app.switch.tables import messages as store
from app.switch.tables.encoding import prepare_switch_connection, reset_switch_connection
from app.switch.tables.indexes import INDEXES, THERE, Indexes
from tests.support.access_tokens import OPERATOR, make_token
from tests.support.databases import another
from tests.support.pbx import Site
from tests.support.switch_rows import ROOT, insert, switch_row

EVERYBODY = OPERATOR
SHARED = str(uuid4())
# Each of them in mailbox 7, a second apart; the newest last.
ODD: dict[str, list[dict[str, Any]]] = {
    "plain": [{}, {}],
    "a uuid in capitals": [{"uuid": str(uuid4()).upper()}],
    "no uuid": [{"uuid": None}, {"uuid": ""}, {"uuid": "not-a-uuid"}, {"uuid": "{" + str(uuid4()) + "}"}],
    "a shared uuid": [{"uuid": SHARED}, {"uuid": SHARED}, {"uuid": SHARED, "username": "8"}],
    "a uuid shared by rows of one second": [{"uuid": SHARED, "created_epoch": 5}, {"uuid": SHARED, "created_epoch": 5}],
    "one file": [{"file_path": "/x/msg_1.wav"}, {"file_path": "/x/msg_1.wav"}],
    "nulls": [
        {"created_epoch": None, "file_path": None, "cid_name": None, "message_len": None, "read_epoch": None, "flags": None}
    ],
    "texts that no index can hold": [{"uuid": "🎉" * 255, "file_path": "/" + "🎉" * 254}],
    "a sign for damage": [{"uuid": "a\ufffdb", "file_path": "/\ufffd"}],
}


class Counting(Readers):
    """Counts statements."""

    statements = 0

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """As ever."""
        self.statements += 1
        return await super().fetch(statement, *arguments)


class Lists:
    """The part that lists messages, without HTTP."""

    def __init__(self, pool: Pool, switch_pool: Pool, readers: Counting, switch_readers: Counting) -> None:
        self.switch_pool, self.readers, self.switch_readers = switch_pool, readers, switch_readers
        storage = RecordingStorage(RecordingPaths(Path("/nowhere"), ROOT))
        self.registry = Registry(pool, switch_pool, storage, _announce, max_age=86400)
        self.messages = Messages(readers, switch_readers, self.registry, storage)
        self.rendering = Rendering(ZoneInfo("Asia/Ho_Chi_Minh"))

    def lines(self, page: PageLines) -> list[LineOut]:
        """A page as it is shown."""
        return self.rendering.lines(page.lines, "", page.unread)

    async def ids(self, extension: str | None = None) -> list[str]:
        """The ids in the list of a mailbox, or of the domain."""
        page = await self.messages.page(EVERYBODY, None if extension is None else Extension(extension), limit=100)
        lines = self.rendering.lines(page.lines, "", page.unread)
        assert page.total == len(lines) == len({line["id"] for line in lines})
        return [line["id"] for line in lines]

    async def round_trips(self, extension: str) -> int:
        """How many statements a list costs."""
        before = self.readers.statements, self.switch_readers.statements
        await self.ids(extension)
        spent = {self.readers: self.readers.statements - before[0]}
        spent[self.switch_readers] = self.switch_readers.statements - before[1]
        return sum(spent.values())


async def _announce(_connection: Connection, _messages: Any) -> None:
    return


@pytest.fixture(params=["one database", "two databases", "two databases, one without an encoding"])
async def lists(request: pytest.FixtureRequest, postgres: str, database: str) -> AsyncIterator[Lists]:
    switch = database
    admin = await asyncpg.connect(postgres)
    if request.param != "one database":
        switch = another(postgres, "test_lists")
        encoding = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'" if "encoding" in request.param else ""
        await admin.execute(f"CREATE DATABASE test_lists TEMPLATE template0 {encoding}")
        connection = await asyncpg.connect(switch)
        # Without an encoding a length is one of bytes.
        await connection.execute(TABLES.read_text().replace("varchar(255)", "text" if encoding else "varchar(255)"))
        await connection.close()
    pool = await open_pool(database, application_name="test")
    switch_pool = await open_pool(
        switch, application_name="test", prepare=prepare_switch_connection, reset=reset_switch_connection
    )
    switch_readers = Counting(switch, size=2, application_name="test", prepare=prepare_switch_connection)
    readers = switch_readers if switch == database else Counting(database, size=2, application_name="test")
    yield Lists(pool, switch_pool, readers, switch_readers)
    pool.terminate()
    switch_pool.terminate()
    await readers.close()
    await switch_readers.close()
    if switch != database:
        await admin.execute("DROP DATABASE test_lists WITH (FORCE)")
    await admin.close()


async def leave(lists: Lists, rows: list[dict[str, Any]]) -> None:
    """Insert rows as the switch does."""
    made = [switch_row(**{"username": "7", "created_epoch": 1_700_000_000 + number} | row) for number, row in enumerate(rows)]
    columns = ", ".join(made[0])
    values = ", ".join(f"${number}" for number in range(1, len(made[0]) + 1))
    for row in made:
        await lists.switch_pool.execute(f"INSERT INTO voicemail_msgs ({columns}) VALUES ({values})", *row.values())


async def every_id_can_be_fetched(lists: Lists, ids: list[str]) -> None:
    """Each id is that of one message, which can be found by it."""
    for id_ in ids:
        message: Message = await lists.messages.find(EVERYBODY, id_)
        assert str(message.id) == id_


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD.keys())
async def test_ids_are_the_same_before_and_after_the_intake(lists: Lists, rows: list[dict[str, Any]]) -> None:
    await leave(lists, rows)

    first = await lists.ids("7")
    await every_id_can_be_fetched(lists, first)
    await lists.registry.record([])
    again, of_all = await lists.ids("7"), await lists.ids()

    assert again == first
    assert len(of_all) == len(rows)
    assert set(first) <= set(of_all)
    assert all(str(UUID(id_)) == id_ for id_ in of_all)
    await every_id_can_be_fetched(lists, of_all)


async def test_a_row_that_comes_later_with_a_known_uuid_has_an_id_of_its_own_at_once(lists: Lists) -> None:
    await leave(lists, [{"uuid": SHARED}])
    assert await lists.ids("7") == [SHARED]

    await leave(lists, [{"uuid": SHARED, "created_epoch": 1}])
    ids = await lists.ids("7")

    assert ids[0] == SHARED
    assert UUID(ids[1]).version == 5
    await every_id_can_be_fetched(lists, ids)
    await lists.switch_pool.execute("DELETE FROM voicemail_msgs WHERE created_epoch <> 1")
    assert await lists.ids("7") == ids[1:]


async def test_a_list_of_messages_that_are_recorded_takes_a_round_trip_a_database(lists: Lists) -> None:
    await leave(lists, [{}, {"uuid": SHARED}, {"uuid": SHARED}, {"uuid": "not-a-uuid"}, {"cid_name": "Nguyễn"}])
    await lists.ids("7")

    assert await lists.round_trips("7") == (1 if lists.readers is lists.switch_readers else 2)


async def test_a_page_after_the_last_knows_the_total(lists: Lists) -> None:
    await leave(lists, [{}, {}, {}])

    page = await lists.messages.page(EVERYBODY, Extension("7"), limit=2, offset=9)

    assert (list(page.lines), page.total) == ([], 3)
    assert await lists.ids("nobody") == []


A, B, C = Domain("a.example"), Domain("b.example"), Domain("c.example")
SOME = Grant("some", frozenset({A, B}), A, ALL_SCOPES)
# Two domains, an extension in both; one second and one call in both; a third domain, and rows of no domain.
OF_DOMAINS: list[dict[str, Any]] = [
    {"domain": A, "uuid": SHARED, "created_epoch": 7}, {"domain": B, "uuid": SHARED, "created_epoch": 7},
    *({"domain": domain, "created_epoch": 10 + number} for number in range(4) for domain in (A, B, C)),
    *({"domain": domain, "username": "8", "created_epoch": 20} for domain in (A, B, C)),
    {"domain": B, "flags": "delete"}, {"domain": None}, {"domain": A, "created_epoch": None},
]  # fmt: skip


@pytest.mark.parametrize("extension", [None, "7"])
@pytest.mark.parametrize("recorded", [False, True])
async def test_a_list_of_several_domains_is_newest_first_in_pages_and_has_nothing_else(
    lists: Lists, extension: str | None, recorded: bool
) -> None:
    await leave(lists, OF_DOMAINS)
    for grant, domains in ((SOME, [A, B]), (replace(EVERYBODY, default_domain=A), [A, B, C])):
        if recorded:
            await lists.messages.page(grant, domain="*", limit=100)
        expected = await lists.switch_pool.fetch(
            """
            SELECT domain, username, coalesce(created_epoch, 0) AS epoch FROM voicemail_msgs
            WHERE domain = ANY($1::text[]) AND flags IS DISTINCT FROM 'delete' AND ($2::text IS NULL OR username = $2)
            ORDER BY created_epoch DESC NULLS LAST, uuid, file_path, domain
            """,
            domains,
            extension,
        )
        shown = [(row["domain"], row["username"], row["epoch"]) for row in expected]
        asked = None if extension is None else Extension(extension)

        found = []
        for offset in range(0, len(shown) + 3, 3):
            page = await lists.messages.page(grant, asked, domain="*", limit=3, offset=offset)
            assert page.total == len(shown)
            found += [(line["domain"], line["extension"], line["id"], line["created_at"]) for line in lists.lines(page)]

        assert [one[:2] for one in found] == [one[:2] for one in shown]
        assert len({one[2] for one in found}) == len(found)
        assert (await lists.messages.page(grant, asked, domain=B, limit=100)).total == sum(one[0] == B for one in shown)
        for _, _, id_, _ in found:
            assert str((await lists.messages.find(grant, id_)).id) == id_


async def test_a_token_whose_domains_have_no_message_has_an_empty_list(lists: Lists) -> None:
    await leave(lists, [{"domain": C}, {"domain": None}])

    for domain in (None, "*", B):
        assert (await lists.messages.page(SOME, domain=domain)).total == 0


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("mailbox", [None, MailboxAddress(Extension("8"), A)], ids=["domains", "one mailbox"])
async def test_what_is_out_of_reach_takes_the_statements_of_what_is_not_there(
    lists: Lists, recorded: bool, mailbox: MailboxAddress | None
) -> None:
    grant = replace(SOME, mailbox=mailbox)
    await leave(lists, [{"domain": C, "uuid": SHARED}, {"domain": C, "uuid": "no-uuid"}, {"domain": C, "uuid": SHARED}])
    ids = [SHARED]
    if recorded:
        ids = [line["id"] for line in lists.lines(await lists.messages.page(EVERYBODY, domain=C))]
    if mailbox is not None:
        await leave(lists, [{"domain": A, "username": "7", "uuid": (near := str(uuid4()))}])
        ids.append(near)

    async def cost(key: str) -> tuple[int, int]:
        before = lists.readers.statements, lists.switch_readers.statements
        with pytest.raises(NotFound, match="there is no such message"):
            await lists.messages.find(grant, key)
        return lists.readers.statements - before[0], lists.switch_readers.statements - before[1]

    nothing = await cost(str(uuid4()))
    assert [await cost(id_) for id_ in ids] == [nothing] * len(ids)
    assert await cost("7") == await cost("nobody")


@pytest.mark.parametrize("statement", pages.PAGES.values(), ids=range(len(pages.PAGES)))
async def test_every_list_reads_its_page_by_an_index(pool: Pool, statement: str) -> None:
    """Nothing in the plan grows with the table but the count, which needs the index alone."""
    await Indexes(pool).ensure()
    await pool.execute(
        """
        INSERT INTO voicemail_msgs (created_epoch, username, domain, uuid, file_path, flags)
        SELECT n, (n % 500)::text, 'd' || n % 5, gen_random_uuid()::text, '/x/' || n, '' FROM generate_series(1, 50000) n
        """
    )
    await pool.execute("VACUUM ANALYZE voicemail_msgs")
    parameters: list[Any] = {
        store.OF_MAILBOX: ["7", "d2"], store.OF_DOMAIN: ["d1"], store.OF_MAILBOXES: ["7", ["d1", "d2"]],
        store.OF_EXTENSION: ["7"], store.OF_DOMAINS: [["d1", "d2"]], store.OF_ALL: [],
    }[next(choice for choice, text in pages.PAGES.items() if text == statement)]  # fmt: skip

    rows = await pool.fetch(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {statement}", *parameters, 10, 0)

    plan = "\n".join(row[0] for row in rows)
    page = plan[plan.index("Limit") :]
    assert "Seq Scan on voicemail_msgs" not in page, plan
    assert max(int(float(number)) for number in re.findall(r"actual rows=([0-9.]+)", page)) <= 200, plan


async def test_bytes_that_are_no_utf8_never_pass_for_another_row(postgres: str, database: str) -> None:
    """In one database without an encoding: a damaged row is recorded with U+FFFD, and a row that has U+FFFD is not that row."""
    admin = await asyncpg.connect(postgres)
    await admin.execute("CREATE DATABASE test_damaged TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    dsn = another(postgres, "test_damaged")
    await migrate(dsn)
    pool = await open_pool(dsn, application_name="test")
    switch_pool = await open_pool(dsn, application_name="test", prepare=prepare_switch_connection, reset=reset_switch_connection)
    readers = Counting(dsn, size=2, application_name="test", prepare=prepare_switch_connection)
    try:
        await switch_pool.execute(TABLES.read_text())
        lists = Lists(pool, switch_pool, readers, readers)
        same = {"created_epoch": 5, "cid_name": "A\udcffB"}
        await leave(lists, [same | {"uuid": "a\udcff", "file_path": "/\udcff"}])
        (damaged,) = await lists.ids("7")
        await leave(lists, [same | {"uuid": "a\ufffd", "file_path": "/\ufffd"}])

        ids = await lists.ids("7")

        assert len(set(ids)) == 2
        assert damaged in ids
        await every_id_can_be_fetched(lists, ids)
    finally:
        pool.terminate()
        switch_pool.terminate()
        await readers.close()
        await admin.execute("DROP DATABASE test_damaged WITH (FORCE)")
        await admin.close()


async def test_whoever_saw_a_commit_sees_it_in_the_list(stand_in_site: Site, pool: Pool) -> None:
    """Readers all the time; each writer then reads its own row."""
    site = stand_in_site
    over = False

    async def read() -> None:
        while not over:
            await site.get("/v1/voicemail/message?limit=50")

    async def write(extension: str) -> None:
        path = f"/v1/voicemail/message?extension={extension}&limit=1000"
        for number in range(1, 16):
            row = switch_row(username=extension, uuid=str(uuid4()))
            await insert(pool, row)
            page = await site.get(path)
            assert page["total"] == len(page["data"]) == number
            assert row["uuid"] in {message["id"] for message in page["data"]}
            assert await site.get(path) == page
        await pool.execute("DELETE FROM voicemail_msgs WHERE username = $1", extension)
        assert (await site.get(path))["total"] == 0

    readers = [asyncio.ensure_future(read()) for _ in range(4)]
    await asyncio.gather(*(write(str(extension)) for extension in range(201, 205)))
    over = True
    await asyncio.gather(*readers)


async def test_a_list_is_of_the_token_s_domains_and_of_the_client_s_host(stand_in_site: Site, pool: Pool) -> None:
    await insert(pool, switch_row())
    other = await make_token(stand_in_site.dsn, "other", ["elsewhere.example"])

    for _ in range(2):
        assert (await stand_in_site.get("/v1/voicemail/message"))["total"] == 1
        async with stand_in_site.client.get("/v1/voicemail/message", headers={"Authorization": f"Bearer {other}"}) as answer:
            assert (await answer.json())["total"] == 0
    async with stand_in_site.client.get("/v1/voicemail/message", headers={"Host": "elsewhere.example"}) as answer:
        (message,) = (await answer.json())["data"]
    assert message["download_url"].startswith("http://elsewhere.example/")


async def test_a_table_that_the_switch_creates_anew_is_listed_at_once(stand_in_site: Site, pool: Pool) -> None:
    await insert(pool, switch_row())
    assert (await stand_in_site.get("/v1/voicemail/message"))["total"] == 1
    async with asyncio.timeout(60):  # PostgreSQL may refuse to drop a table on which an index is being made
        while [row["indisvalid"] for row in await pool.fetch(THERE, list(INDEXES))] != [True] * len(INDEXES):
            await asyncio.sleep(0.05)

    await pool.execute("DROP TABLE voicemail_msgs, voicemail_prefs")
    async with stand_in_site.client.get("/v1/voicemail/message") as answer:
        assert answer.status == 503
    await pool.execute(TABLES.read_text().replace("username varchar(255)", "username text"))
    await insert(pool, row := switch_row())

    assert [message["id"] for message in (await stand_in_site.get("/v1/voicemail/message"))["data"]] == [row["uuid"]]


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        (None, "2021-08-27T11:13:44+07:00"),
        ("America/St_Johns", "2021-08-27T01:43:44-02:30"),
        ("No/Where", "2021-08-27T11:13:44+07:00"),
    ],
)
async def test_a_list_has_the_times_of_each_mailbox(stand_in_site: Site, pool: Pool, zone: str | None, shown: str) -> None:
    await stand_in_site.create("101")
    await pool.execute("UPDATE voicemail.mailbox SET time_zone = $1", zone)
    await insert(pool, row := switch_row(created_epoch=1_630_037_624))

    for path in ("?extension=101", ""):
        (message,) = (await stand_in_site.get(f"/v1/voicemail/message{path}"))["data"]
        assert message["created_at"] == shown
    assert (await stand_in_site.get(f"/v1/voicemail/message/{row['uuid']}"))["created_at"] == shown
