"""Every audited action leaves exactly one row that says who, from where, what and which; what did not happen leaves none."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from app.access.scopes import ALL_SCOPES, Scope
from app.database.pool import close_pool, open_pool
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.keys import load_or_create_keys
from app.mailboxes.pins.phone import PhonePins
from app.switch.tables.prefs import VoicemailTables
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, TOKEN, Site
from tests.support.switch_rows import COLUMNS, switch_row
from tests.support.two_domains import OTHER

AGENT = "audit tests/1.0"


class Trail:
    """A caller with a token of its own, and the rows that name it."""

    def __init__(self, site: Site, name: str, token: str) -> None:
        self.site, self.name = site, name
        self.headers = {"Authorization": f"Bearer {token}", "User-Agent": AGENT}

    async def ask(self, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any], str]:
        """Status, body and request id of a call."""
        request_id = uuid4().hex
        headers = self.headers | {"X-Request-ID": request_id} | request.pop("headers", {})
        async with self.site.client.request(method, path, headers=headers, **request) as answer:
            body = await answer.json() if "json" in answer.content_type else {"bytes": await answer.read()}
            return answer.status, body, request_id

    async def rows(self, **query: str) -> list[dict[str, Any]]:
        """Its rows as the API shows them, newest first."""
        asked = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in ({"limit": "1000", "who": self.name} | query).items()
        )
        found: list[dict[str, Any]] = (await self.site.get(f"/v1/audit?{asked}"))["data"]
        return found

    async def only_row(self, request_id: str) -> dict[str, Any]:
        """The one row of a request."""
        (row,) = [row for row in await self.rows() if row["request_id"] == request_id]
        return row


@pytest.fixture
async def trail(api: Site) -> Trail:
    """A caller that may do everything."""
    name = f"t{uuid4().hex[:12]}"
    return Trail(api, name, await make_token(api.dsn, name))


@pytest.fixture
async def connection(api: Site) -> AsyncIterator[asyncpg.Connection]:
    """The service's database, by the service's role."""
    connection = await asyncpg.connect(api.dsn)
    yield connection
    await connection.close()


def told(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row says was done."""
    return row["action"], row["domain"], row["extension"], row["target"], row["detail"], row["result"], row["count"]


def mailbox_body(extension: str, **fields: Any) -> dict[str, Any]:
    return {"extension": extension, "password": "73190", "enabled": True} | fields


async def test_each_change_of_a_mailbox_leaves_one_row(trail: Trail, extension: str) -> None:
    path = f"/v1/voicemail/{extension}"
    status, made, created = await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension))
    id_ = made["data"]["id"]
    assert status == 201
    calls: list[tuple[str, dict[str, Any] | None, tuple[str, str]]] = [
        ("PUT", {"password": "", "enabled": False, "mail_to": "a@example.com"}, ("mailbox.change", "enabled, mail_to")),
        ("PUT", {"password": "73191", "enabled": True}, ("pin.set", "password, enabled")),
        ("PATCH", {"description": "For Tech"}, ("mailbox.change", "description")),
        ("PATCH", {"password": "73192"}, ("pin.set", "password")),
        ("DELETE", None, ("mailbox.delete", "")),
    ]
    about = (DOMAIN, extension, id_)

    assert told(await trail.only_row(created)) == ("mailbox.create", *about, "", "done", 1)
    for method, body, (action, detail) in calls:
        status, _, request_id = await trail.ask(method, path, json=body)
        assert status == 200
        assert told(await trail.only_row(request_id)) == (action, *about, detail, "done", 1)
    rows = await trail.rows()
    assert len(rows) == 1 + len(calls)
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert "7319" not in str([{**row, "id": "", "target": "", "request_id": "", "at": "", "token_id": ""} for row in rows])


async def test_a_row_says_who_and_from_where(api: Site, trail: Trail, extension: str) -> None:
    began = datetime.now(UTC)
    _, _, request_id = await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension))

    row = await trail.only_row(request_id)

    assert (row["actor"], row["who"], row["address"], row["user_agent"]) == ("token", trail.name, "127.0.0.1", AGENT)
    assert row["token_id"] == (await api.get(f"/v1/token/{trail.name}"))["id"]
    assert began - timedelta(seconds=5) < datetime.fromisoformat(row["at"]) < datetime.now(UTC) + timedelta(seconds=5)


async def test_a_pin_that_is_set_by_phone_leaves_a_row(api: Site, extension: str, connection: asyncpg.Connection) -> None:
    made = await api.create(extension)
    await connection.execute(
        "INSERT INTO voicemail_prefs (username, domain, password) VALUES ($1, $2, '73190')", extension, DOMAIN
    )
    pool = await open_pool(api.dsn, size=3, application_name="test")
    cipher = PinCipher(*load_or_create_keys(None, api.folder))

    await PhonePins(pool, cipher, VoicemailTables(pool)).sync()  # unless the service did it a moment ago

    await close_pool(pool)
    (row,) = (await api.get(f"/v1/audit?action=pin.set&extension={extension}"))["data"]
    assert (row["actor"], row["who"], row["address"]) == ("phone", "", None)
    assert told(row) == ("pin.set", DOMAIN, extension, made["id"], "password", "done", 1)


async def test_the_token_of_the_settings_is_named_and_has_no_id(api: Site, extension: str) -> None:
    await api.create(extension)

    (row,) = (await api.get(f"/v1/audit?extension={extension}"))["data"]

    assert (row["actor"], row["who"], row["token_id"]) == ("token", "VOICEMAIL_API_TOKEN", None)


async def test_a_change_that_is_refused_leaves_none(trail: Trail, extension: str) -> None:
    await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension))
    before = len(await trail.rows())
    path = f"/v1/voicemail/{extension}"

    statuses = [
        (await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension)))[0],
        (await trail.ask("PUT", path, json={"password": "1", "enabled": True, "extension": "another"}))[0],
        (await trail.ask("PUT", path, json={"password": "1", "enabled": True}, headers={"If-Match": '"another"'}))[0],
        (await trail.ask("DELETE", path, headers={"If-Match": '"another"'}))[0],
    ]

    assert statuses == [409, 422, 412, 412]
    assert len(await trail.rows()) == before


async def test_what_cannot_be_audited_is_not_done(
    api: Site, trail: Trail, extension: str, connection: asyncpg.Connection
) -> None:
    left = await prepared(api, trail, extension)
    name = f"d{uuid4().hex[:10]}.example"

    await connection.execute("REVOKE INSERT ON voicemail.audit FROM CURRENT_USER")
    try:
        statuses = [
            (await trail.ask("POST", "/v1/voicemail", json=mailbox_body(f"{extension}x")))[0],
            (await trail.ask("PUT", f"/v1/voicemail/{extension}", json={"password": "9", "enabled": False}))[0],
            (await trail.ask("DELETE", f"/v1/voicemail/{extension}"))[0],
            (await trail.ask("POST", "/v1/domain", json={"name": name}))[0],
            (await trail.ask("DELETE", f"/v1/token/{trail.name}"))[0],
            (await trail.ask("GET", f"/v1/voicemail/{extension}"))[0],
            (await trail.ask("GET", f"/v1/voicemail/message/{left}/download"))[0],
        ]
    finally:
        await connection.execute("GRANT INSERT ON voicemail.audit TO CURRENT_USER")

    assert statuses == [500] * 7
    assert (await trail.ask("GET", f"/v1/voicemail/{extension}x"))[0] == 404
    assert (await trail.ask("GET", f"/v1/domain/{name}"))[0] == 404
    _, mailbox, _ = await trail.ask("GET", f"/v1/voicemail/{extension}")
    assert (mailbox["password"], mailbox["enabled"]) == ("73190", True)


async def prepared(api: Site, trail: Trail, extension: str) -> str:
    """A mailbox with a message; the message's id."""
    await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension))
    return (await api.switch.leave_message(extension)).uuid


async def test_a_pin_that_is_read_leaves_a_row_and_a_hidden_one_does_not(api: Site, trail: Trail, extension: str) -> None:
    _, made, _ = await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension))

    _, shown, one = await trail.ask("GET", f"/v1/voicemail/{extension}")
    _, page, several = await trail.ask("GET", "/v1/voicemail?limit=2")
    _, empty, none = await trail.ask("GET", "/v1/voicemail?limit=2&offset=1000000")

    assert shown["password"] == "73190"
    assert told(await trail.only_row(one)) == ("pin.read", DOMAIN, extension, made["data"]["id"], "", "allowed", 1)
    count = len(page["data"])
    assert told(await trail.only_row(several)) == ("pin.read", DOMAIN, None, "", "list, limit 2, offset 0", "allowed", count)
    assert empty["data"] == []
    assert none not in {row["request_id"] for row in await trail.rows()}
    name = f"blind{uuid4().hex[:8]}"
    blind = Trail(api, name, await make_token(api.dsn, name, None, ALL_SCOPES - {Scope.PIN_READ}))
    assert (await blind.ask("GET", f"/v1/voicemail/{extension}"))[1]["password"] == ""
    assert (await blind.ask("GET", "/v1/voicemail"))[0] == 200
    assert await blind.rows() == []


async def test_a_list_of_messages_leaves_none(api: Site, trail: Trail, extension: str) -> None:
    left = await prepared(api, trail, extension)
    before = len(await trail.rows())

    assert (await trail.ask("GET", "/v1/voicemail/message?limit=50"))[0] == 200
    assert (await trail.ask("GET", f"/v1/voicemail/message/{left}"))[0] == 200

    assert len(await trail.rows()) == before


async def test_a_download_leaves_a_row(api: Site, trail: Trail, extension: str) -> None:
    left = await prepared(api, trail, extension)

    status, body, request_id = await trail.ask("GET", f"/v1/voicemail/message/{extension}/download")

    assert (status, len(body["bytes"]) > 44) == (200, True)
    assert told(await trail.only_row(request_id)) == ("message.audio", DOMAIN, extension, left, "", "allowed", 1)


async def test_a_download_whose_client_goes_away_is_in_the_audit(api: Site, trail: Trail, extension: str) -> None:
    left = await prepared(api, trail, extension)
    host, port = api.client._base_url.host, api.client._base_url.port  # type: ignore[union-attr]
    request_id = uuid4().hex

    _, writer = await asyncio.open_connection(host, port)
    head = f"GET /v1/voicemail/message/{left}/download HTTP/1.1\r\nHost: x\r\nX-Request-ID: {request_id}\r\n"
    writer.write(f"{head}Authorization: {trail.headers['Authorization']}\r\n\r\n".encode())
    await writer.drain()
    writer.transport.abort()

    async with asyncio.timeout(15):
        while request_id not in {row["request_id"] for row in await trail.rows()}:
            await asyncio.sleep(0.05)
    assert (await trail.only_row(request_id))["target"] == left


async def test_domains_and_tokens_leave_a_row_each_without_any_secret(api: Site, trail: Trail) -> None:
    domain, token = f"d{uuid4().hex[:10]}.example", f"k{uuid4().hex[:10]}"
    calls: list[tuple[str, str, dict[str, Any] | None, int, str]] = [
        ("POST", "/v1/domain", {"name": domain}, 201, "domain.create"),
        ("PUT", f"/v1/domain/{domain}", {"language": "vi"}, 200, "domain.change"),
        ("PATCH", f"/v1/domain/{domain}", {"mail_from": "x@example.com"}, 200, "domain.change"),
        ("POST", "/v1/token", {"name": token, "domains": [domain], "scopes": ["message:read"]}, 201, "token.create"),
        ("POST", f"/v1/token/{token}/rotate", {}, 200, "token.rotate"),
        ("DELETE", f"/v1/token/{token}", None, 200, "token.revoke"),
        ("DELETE", f"/v1/domain/{domain}", None, 200, "domain.delete"),
    ]
    texts = []
    for method, path, body, expected, action in calls:
        status, answer, request_id = await trail.ask(method, path, json=body)
        assert status == expected, answer
        row = await trail.only_row(request_id)
        texts.append(answer.get("token", "no text"))
        target = token if action.startswith("token") else ""
        assert (row["action"], row["domain"], row["target"], row["result"]) == (action, domain, target, "done")
        if action == "token.create":
            assert "scopes message:read" in row["detail"]
            assert f"domains {domain}" in row["detail"]
            assert answer["data"]["id"] in row["detail"]
    rows = await trail.rows()
    assert len(rows) == len(calls)
    assert not any(text in str(rows) for text in texts)
    assert {row["detail"] for row in rows if row["action"] == "domain.change"} == {"language", "mail_from"}


async def test_the_list_is_filtered(trail: Trail, extension: str) -> None:
    for number in (1, 2):
        await trail.ask("POST", "/v1/voicemail", json=mailbox_body(f"{extension}-{number}"))
    await trail.ask("DELETE", f"/v1/voicemail/{extension}-1")
    at = (await trail.rows())[1]["at"]

    async def count(**query: str) -> int:
        return len(await trail.rows(**query))

    assert await count() == 3
    assert await count(extension=f"{extension}-1") == 2
    assert await count(action="mailbox.delete") == 1
    assert await count(domain=DOMAIN) == 3
    assert await count(domain=OTHER) == 0
    assert await count(domain="*") == 3
    assert await count(address="127.0.0.1") == await count(address="::ffff:127.0.0.1") == 3
    assert await count(address="192.0.2.1") == 0
    assert await count(since=at) == 2
    assert await count(until=at) == 1
    assert await count(since=at.replace("Z", "+00:00")) == 2
    assert await count(who="nobody of this name") == 0


async def test_pages_follow_one_another_while_rows_come(trail: Trail, extension: str) -> None:
    for number in range(5):
        await trail.ask("POST", "/v1/voicemail", json=mailbox_body(f"{extension}-{number}"))
    found: list[str] = []
    cursor = ""
    while True:
        page = await trail.site.get(f"/v1/audit?who={trail.name}&limit=2&cursor={cursor}")
        found += [row["extension"] for row in page["data"]]
        assert (page["limit"], len(page["data"]) <= 2) == (2, True)
        await trail.ask("PATCH", f"/v1/voicemail/{extension}-0", json={})
        if (cursor := page["next"]) is None:
            break

    assert found == [f"{extension}-{number}" for number in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=x", "cursor"), ("cursor=MS4x%0A", "cursor"), ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5LjE", "cursor"), ("since=yesterday", "since"),
        ("since=1", "since"), ("until=0001-01-01T00:00:00%2B14:00", "until"), ("since=2026-13-01T00:00:00Z", "since"),
        ("action=nothing", "action"), ("address=a.b", "address"), ("domain=a%0Ab", "domain"), ("limit=0", "limit"), ("limit=1001", "limit"),
        ("who=" + "x" * 256, "who"), ("nothing=1", "nothing"),
    ],
)  # fmt: skip
async def test_a_wrong_query_is_named(api: Site, query: str, field: str) -> None:
    async with api.client.get(f"/v1/audit?{query}") as answer:
        assert answer.status == 422
        assert [error["field"] for error in (await answer.json())["errors"]] == [field]


@pytest.mark.parametrize("text", ["%00", "%0A", "%F0%9F%8E%89", "%ED%A0%80", "%FF", "'; DROP TABLE voicemail.audit; --", "%25s"])
async def test_hostile_filters_find_nothing(api: Site, text: str) -> None:
    for name in ("who", "extension"):
        async with api.client.get(f"/v1/audit?{name}=zz{text}") as answer:
            assert (answer.status, (await answer.json())["data"]) == (200, [])


@pytest.mark.parametrize(
    "agent", ["🎉" * 300, "a\tb", "Mozilla\xa0\x85x", "\xff\xfe", "'\"<script>", "x" * 5000], ids=range(6)
)  # fmt: skip
async def test_a_hostile_user_agent_goes_through(api: Site, trail: Trail, extension: str, agent: str) -> None:
    host, port = api.client._base_url.host, api.client._base_url.port  # type: ignore[union-attr]
    request_id = uuid4().hex
    body = b'{"extension": "%s", "password": "73190", "enabled": true}' % extension.encode()

    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/voicemail HTTP/1.1\r\nHost: x\r\nX-Request-ID: {request_id}\r\nContent-Length: {len(body)}\r\n"
    head += f"Authorization: {trail.headers['Authorization']}\r\nContent-Type: application/json\r\nUser-Agent: "
    raw = agent.encode("latin-1") if all(ord(letter) < 256 for letter in agent) else agent.encode()
    writer.write(head.encode() + raw + b"\r\n\r\n" + body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    writer.close()

    row = await trail.only_row(request_id)
    assert row["extension"] == extension
    assert len(row["user_agent"]) <= 255
    assert row["user_agent"].isprintable()


async def test_a_message_of_a_hostile_mailbox_can_be_downloaded_and_is_in_the_audit(
    api: Site, trail: Trail, connection: asyncpg.Connection
) -> None:
    for username in ("10\n1\t🎉", "é" * 200, "\x1b[2J"):
        path = api.switch.recordings / f"msg_{uuid4()}.wav"
        path.write_bytes(b"RIFF")
        uuid = str(uuid4())
        row = switch_row(username=username, uuid=uuid, file_path=str(path))
        await connection.copy_records_to_table("voicemail_msgs", records=[tuple(row[name] for name in COLUMNS)], columns=COLUMNS)

        status, body, request_id = await trail.ask("GET", f"/v1/voicemail/message/{uuid}/download")

        assert (status, body) == (200, {"bytes": b"RIFF"})
        kept = await trail.only_row(request_id)
        assert (kept["action"], kept["target"]) == ("message.audio", uuid)
        assert kept["extension"].isprintable()
        assert kept in await trail.rows(extension=username)


async def test_an_administrator_of_a_domain_sees_that_domain_only(api: Site, trail: Trail, extension: str) -> None:
    await trail.ask("POST", "/v1/voicemail", json=mailbox_body(extension))
    domain = f"d{uuid4().hex[:10]}.example"
    await trail.ask("POST", "/v1/domain", json={"name": domain})
    own = {"Authorization": f"Bearer {await make_token(api.dsn, f'a{uuid4().hex[:10]}', [DOMAIN], [Scope.ADMIN])}"}
    far = {"Authorization": f"Bearer {await make_token(api.dsn, f'c{uuid4().hex[:10]}', [domain], [Scope.ADMIN])}"}

    async def seen(headers: dict[str, str], query: str = "") -> tuple[int, Any]:
        async with api.client.get(f"/v1/audit?limit=1000{query}", headers=headers) as answer:
            return answer.status, (await answer.json()).get("data")

    _, of_own = await seen(own)
    assert {row["domain"] for row in of_own} == {DOMAIN}
    assert extension in {row["extension"] for row in of_own}
    _, of_far = await seen(far)
    # The token itself is of that domain alone, so its making is that domain's too.
    assert {(row["domain"], row["action"]) for row in of_far} == {(domain, "domain.create"), (domain, "token.create")}
    assert (await seen(far, f"&domain={DOMAIN}"))[0] == 404
    assert await seen(far, f"&domain={domain}") == (200, of_far)
    without = {
        "Authorization": f"Bearer {await make_token(api.dsn, f'b{uuid4().hex[:10]}', [DOMAIN], ALL_SCOPES - {Scope.ADMIN})}"
    }
    assert (await seen(without))[0] == 403


async def test_refused_requests_are_counted_by_address_and_minute(stand_in_site: Site) -> None:
    site = stand_in_site
    token = await make_token(site.dsn, "weak", [DOMAIN], [Scope.MESSAGE_READ])
    async with aiohttp.ClientSession(site.client._base_url) as nobody:
        for _ in range(20):
            async with nobody.get("/v1/voicemail", headers={"Authorization": "Bearer wrong"}) as answer:
                assert answer.status == 401
        for path in ("/v1/voicemail", "/v1/token", f"/v1/voicemail/message/{uuid4()}", "/v1/voicemail/message?domain=x.example"):
            async with nobody.get(path, headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status in (403, 404)
    await site.close()  # which writes what was counted

    connection = await asyncpg.connect(site.dsn)
    rows = await connection.fetch("SELECT * FROM voicemail.audit WHERE action = 'request'")
    token_id = await connection.fetchval("SELECT id FROM voicemail.api_token WHERE name = 'weak'")
    await connection.close()

    counts: dict[tuple[Any, ...], int] = {}
    for row in rows:  # two minutes, if one ended meanwhile
        key = (row["result"], row["actor"], row["name"], row["token_id"], row["address"])
        counts[key] = counts.get(key, 0) + row["count"]
        assert row["at"].second == row["at"].microsecond == 0
    assert counts == {
        ("unauthorized", "nobody", "", None, "127.0.0.1"): 20,
        ("forbidden", "token", "weak", token_id, "127.0.0.1"): 2,
        ("not_found", "token", "weak", token_id, "127.0.0.1"): 2,
    }
    assert TOKEN not in str(rows)
