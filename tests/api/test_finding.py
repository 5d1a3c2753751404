"""Filters, orders and cursors of the lists of messages, and the counts of mailboxes, through HTTP."""

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest

from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site
from tests.support.switch_rows import COLUMNS, switch_row
from tests.support.two_domains import OTHER

# The names of the messages, the oldest first.
LEFT: list[dict[str, Any]] = [
    {"cid_name": "Ann 100%", "cid_number": "0891", "message_len": 5, "username": "9101"},
    {"cid_name": "Bob_B", "cid_number": "0892", "message_len": 60, "username": "9101", "read_epoch": 7},
    {"cid_name": "Ngọc Ánh", "cid_number": "+84 1", "message_len": 30, "username": "9101", "flags": "save", "read_epoch": 7},
    {"cid_name": "Dan", "cid_number": "sip-dan", "message_len": 0, "username": "9101", "read_flags": "A_URGENT"},
    {"cid_name": "Eve", "cid_number": "0891", "message_len": 9, "username": "9102"},
    {"cid_name": "gone", "cid_number": "0891", "message_len": 9, "username": "9101", "flags": "delete"},
]
EPOCH = 1_700_000_000  # 2023-11-14T22:13:20Z, of the first; the next are a minute apart


@pytest.fixture(scope="module")
async def left(api: Site) -> str:
    """The path of a list of these messages."""
    for extension in ("9101", "9102"):
        await api.create(extension, mail_to="")
    connection = await asyncpg.connect(api.dsn)
    rows = [switch_row(**row, created_epoch=EPOCH + 60 * number, domain=DOMAIN) for number, row in enumerate(LEFT)]
    await connection.copy_records_to_table(
        "voicemail_msgs", records=[tuple(row[name] for name in COLUMNS) for row in rows], columns=COLUMNS
    )
    await connection.execute("INSERT INTO voicemail.domain (name) VALUES ($1) ON CONFLICT DO NOTHING", OTHER)
    await connection.close()
    return "/v1/voicemail/message?extension=9101,9102"


async def names(api: Site, path: str) -> list[str]:
    """The callers of a list."""
    page = await api.get(path)
    assert page["total"] == len(page["data"])
    assert list(page) == ["data", "limit", "offset", "total", "total_exact", "next"]
    assert (page["total_exact"], page["next"]) == (True, None)
    return [message["caller_id_name"] for message in page["data"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "Eve Dan Ngọc Bob_B Ann"), ("read=true", "Ngọc Bob_B"), ("read=false", "Eve Dan Ann"), ("saved=true", "Ngọc"),
        ("saved=false", "Eve Dan Bob_B Ann"), ("urgent=true", "Dan"), ("urgent=false", "Eve Ngọc Bob_B Ann"),
        ("since=2023-11-14T22:15:20Z", "Eve Dan Ngọc"), ("since=2023-11-14T22:15:20.5Z", "Eve Dan"), ("until=2023-11-14T22:14:20Z", "Ann"),
        ("since=2023-11-15T05:14:20%2B07:00&until=2023-11-14T22:15:20Z", "Bob_B"), ("caller=089", "Eve Bob_B Ann"), ("caller=0892", "Bob_B"),
        ("caller=892", ""), ("caller=bob_b", "Bob_B"), ("caller=o%25", ""), ("caller=_B", "Bob_B"), ("caller=b_b", "Bob_B"), ("caller=BobxB", ""),
        ("caller=n%20100%25", "Ann"), ("caller=%25", ""), ("caller=SIP-", "Dan"), ("caller=ngọc%20ánh", "Ngọc"), ("caller=NGỌC", "Ngọc"),
        ("caller=%2B84%201", "Ngọc"), ("caller=%5C", ""), ("caller='%3B--", ""), ("min_duration=9", "Eve Ngọc Bob_B"),
        ("max_duration=9", "Eve Dan Ann"), ("min_duration=5&max_duration=9", "Eve Ann"), ("sort=created_at", "Ann Bob_B Ngọc Dan Eve"),
        ("sort=-created_at", "Eve Dan Ngọc Bob_B Ann"), ("sort=duration", "Dan Ann Eve Ngọc Bob_B"), ("sort=-duration", "Bob_B Ngọc Eve Ann Dan"),
        ("sort=caller", "Ngọc Eve Ann Bob_B Dan"), ("sort=-caller", "Dan Bob_B Ann Eve Ngọc"), ("read=&caller=&since=&sort=&cursor=", "Eve Dan Ngọc Bob_B Ann"),
        ("read=false&caller=089&sort=created_at", "Ann Eve"),
    ],
)  # fmt: skip
async def test_a_filter_or_an_order(api: Site, left: str, query: str, expected: str) -> None:
    assert [name.split(" ")[0] for name in await names(api, f"{left}&{query}")] == expected.split()


async def test_an_extension_may_be_given_several_times_or_with_commas(api: Site, left: str) -> None:
    alone = await names(api, "/v1/voicemail/message?extension=9102")

    for query in ("extension=9101&extension=9102", "extension=9101,9102", "extension=9101,,9102,9101&extension=&extension=9102"):
        assert len(await names(api, f"/v1/voicemail/message?{query}")) == 5
    assert alone == ["Eve"] == await names(api, "/v1/voicemail/9102/message")


@pytest.mark.parametrize(
    "query",
    [
        "read=1", "read=True", "saved=yes", "urgent=null", "since=yesterday", "since=1700000000", "until=2023-11-14", "caller=%00", "caller=a%0Ab",
        "caller=" + "x" * 65, "min_duration=-1", "min_duration=1.5", "max_duration=2147483648", "sort=name", "sort=--duration", "cursor=x",
        "cursor=%00", "cursor=" + "A" * 5000, "cursor=bnVsbA", "extension=9101,%0A", "read=true&read=false", "sort=duration&sort=caller", "unknown=1",
        "extension=" + ",".join(str(number) for number in range(101)),
    ],
)  # fmt: skip
async def test_what_is_no_filter_is_refused_and_named(api: Site, left: str, query: str) -> None:
    for path in ("/v1/voicemail/message", "/v1/voicemail/9101/message"):
        async with api.client.get(f"{path}?{query}") as answer:
            body = await answer.json()
            assert answer.status == 422, body
            assert body["errors"][0]["field"] == query.split("=", maxsplit=1)[0]


@pytest.mark.parametrize("query", ["", "sort=created_at", "sort=-duration", "sort=caller", "read=false", "caller=n"])
async def test_a_cursor_leads_through_the_list(api: Site, left: str, query: str) -> None:
    whole = await names(api, f"{left}&{query}")

    for path in (f"{left}&{query}", f"/v1/voicemail/9101/message?{query}"):
        found, cursor = [], ""
        while cursor is not None:
            page = await api.get(f"{path}&limit=2&cursor={cursor}")
            found += [message["caller_id_name"] for message in page["data"]]
            cursor = page["next"]
        assert found == [name for name in whole if name != "Eve" or "message?ext" in path]


async def test_the_plain_list_of_one_mailbox_and_of_several_domains_have_cursors(api: Site, left: str) -> None:
    for path in (
        "/v1/voicemail/message?extension=9101",
        "/v1/voicemail/message?domain=*&extension=9101",
        "/v1/voicemail/9101/message?",
    ):
        first = await api.get(f"{path}&limit=3")
        second = await api.get(f"{path}&limit=3&cursor={first['next']}")

        assert [message["caller_id_name"] for message in first["data"]] == ["Dan", "Ngọc Ánh", "Bob_B"]
        assert [message["caller_id_name"] for message in second["data"]] == ["Ann 100%"]
        assert (second["next"], second["total"], first["total"]) == (None, 4, 4)


async def test_a_cursor_fits_its_order_only_and_no_offset(api: Site, left: str) -> None:
    cursor = (await api.get(f"{left}&sort=duration&limit=2"))["next"]

    for query, field in ((f"cursor={cursor}", "cursor"), (f"sort=duration&offset=1&cursor={cursor}", "offset")):
        async with api.client.get(f"{left}&{query}") as answer:
            assert answer.status == 422
            assert (await answer.json())["errors"][0]["field"] == field


async def test_a_mailbox_is_counted(api: Site, left: str) -> None:
    expected = {"new": 2, "saved": 1, "urgent": 1, "seconds": 95, "trash": 0}
    mailbox = await api.get("/v1/voicemail/9101")

    assert await api.get("/v1/voicemail/9101/count") == expected
    assert await api.get(f"/v1/voicemail/{mailbox['id']}/count?domain={DOMAIN}") == expected
    assert "counts" not in mailbox


async def test_a_list_of_mailboxes_may_have_their_counts(api: Site, left: str, extension: str) -> None:
    await api.create(extension, mail_to="")

    for query in ("counts=true", "counts=true&domain=*"):
        found = {box["extension"]: box for box in (await api.get(f"/v1/voicemail?limit=1000&{query}"))["data"]}
        assert found["9101"]["counts"] == {"new": 2, "saved": 1, "urgent": 1, "seconds": 95, "trash": 0}
        assert found["9102"]["counts"] == {"new": 1, "saved": 0, "urgent": 0, "seconds": 9, "trash": 0}
        assert found[extension]["counts"] == {"new": 0, "saved": 0, "urgent": 0, "seconds": 0, "trash": 0}
        assert list(found["9101"])[-1] == "counts"
    for query in ("", "counts=", "counts=false"):
        assert "counts" not in (await api.get(f"/v1/voicemail?{query}"))["data"][0]


async def test_counts_want_the_scope_for_messages(api: Site, left: str) -> None:
    token = await make_token(api.dsn, f"no-messages-{uuid4().hex}", [DOMAIN], ["mailbox:read"])  # type: ignore[list-item]
    async with api.client.get("/v1/voicemail?counts=true", headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status == 403
        assert "message:read" in (await answer.json())["detail"]


async def test_a_token_of_another_domain_finds_nothing(api: Site, left: str) -> None:
    token = await make_token(api.dsn, f"elsewhere-{uuid4().hex}", [OTHER])
    headers = {"Authorization": f"Bearer {token}"}
    for query, status in (("read=false", 200), ("caller=089&domain=*", 200), (f"caller=089&domain={quote(DOMAIN)}", 404)):
        async with api.client.get(f"{left}&{query}", headers=headers) as answer:
            assert answer.status == status
            assert status == 404 or (await answer.json())["total"] == 0
    cursor = (await api.get(f"{left}&limit=2"))["next"]
    async with api.client.get(f"{left}&cursor={cursor}", headers=headers) as answer:
        assert (await answer.json())["data"] == []
