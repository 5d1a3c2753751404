"""How often a caller may ask, and who the caller is: 429, proxies that are trusted, and those that are not.

The tests are behind a trusted proxy: they say in X-Forwarded-For which client they are.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from structlog.testing import capture_logs

from app.access import credentials
from app.database.pool import open_pool
from tests.support.access_tokens import make_token
from tests.support.databases import another
from tests.support.pbx import DOMAIN, PATIENCE, TOKEN, Site, stand_in
from tests.support.switch_rows import insert, switch_row

TRUSTED = "127.0.0.1, ::1, 10.0.0.0/8, fd00:20::/64"
LIST = "/v1/voicemail"


@pytest.fixture(scope="module")
async def limited(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A service behind a proxy, with the limits of the issue but for requests, of which slow machines make few a second."""
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE test_limits TEMPLATE {template}")
    folder, dsn = tmp_path_factory.mktemp("limits"), another(postgres, "test_limits")
    site = Site(dsn, folder, stand_in(dsn, folder))
    try:
        await site.open(trusted_proxies=TRUSTED, failed_tokens_a_minute=10, requests_a_second=20, downloads_at_once=4)
        yield site
    finally:
        await site.close()
        await admin.execute("DROP DATABASE test_limits WITH (FORCE)")
        await admin.close()


Answer = tuple[int, dict[str, Any], Mapping[str, str]]


async def ask(site: Site, token: str | None, client: str | None, path: str = LIST, **headers: str) -> Answer:
    """Status, body and headers of what a client is answered through the proxy."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if client is not None:
        headers["X-Forwarded-For"] = client
    async with aiohttp.ClientSession(site.client._base_url) as session, session.get(path, headers=headers) as answer:
        return answer.status, await answer.json() if "json" in answer.content_type else {}, dict(answer.headers)


async def statuses(site: Site, tokens: list[str], client: str) -> list[int]:
    """The statuses of one request a token."""
    return [(await ask(site, token, client))[0] for token in tokens]


def wrong(count: int) -> list[str]:
    """Tokens that are well-formed, so that only the database knows that they are wrong."""
    return [credentials.make() for _ in range(count)]


@pytest.fixture
async def token(limited: Site, request: pytest.FixtureRequest) -> str:
    """A token of the test's own."""
    return await make_token(limited.dsn, request.node.name[:60].replace("[", "-").replace("]", ""))


async def test_the_eleventh_wrong_token_in_a_minute_is_429_and_says_when_to_try_again(limited: Site, token: str) -> None:
    client = "192.0.2.1"

    assert await statuses(limited, [*wrong(5), "short", f"{token}x", "vm_", "Basic", f"Bearer {token}"], client) == [401] * 10
    for text in (*wrong(1), "short", token[:-1]):
        status, body, headers = await ask(limited, text, client)
        assert status == body["status"] == 429
        assert body["title"] == "Too Many Requests"
        assert 1 <= int(headers["Retry-After"]) <= 60
        assert headers["Content-Type"].startswith("application/problem+json")
        assert "X-Request-ID" in headers


async def test_a_right_token_passes_beside_wrong_ones_of_the_same_address(limited: Site, token: str) -> None:
    client = "192.0.2.2"
    attack = asyncio.gather(*(statuses(limited, wrong(10), client) for _ in range(4)))

    right = [(await ask(limited, text, client))[0] for text in (token, TOKEN, token)]

    found = [status for some in await attack for status in some]
    assert right == [200, 200, 200]
    assert (found.count(401), found.count(429)) == (10, 30)
    assert await statuses(limited, [await make_token(limited.dsn, "never-seen-before")], client) == [200]


async def test_an_address_that_is_limited_limits_no_other(limited: Site) -> None:
    await statuses(limited, wrong(10), "192.0.2.3")

    assert await statuses(limited, wrong(1), "192.0.2.3") == [429]
    assert await statuses(limited, wrong(1), "192.0.2.4") == [401]


async def test_the_addresses_of_a_64_are_one_caller(limited: Site) -> None:
    for number in range(10):
        assert await statuses(limited, wrong(1), f"2001:db8:5::{number + 1:x}") == [401]

    assert await statuses(limited, wrong(1), "2001:db8:5::ffff:ffff") == [429]
    assert await statuses(limited, wrong(1), "2001:db8:5:1::1") == [401]


async def test_a_request_without_a_token_is_no_failed_attempt(limited: Site) -> None:
    for _ in range(12):
        status, _, headers = await ask(limited, None, "192.0.2.5")
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")

    assert await statuses(limited, wrong(1), "192.0.2.5") == [401]


async def test_a_client_cannot_escape_by_naming_other_addresses(limited: Site) -> None:
    for number in range(10):
        assert await statuses(limited, wrong(1), f"198.51.100.{number}, 10.0.0.{number}, 192.0.2.6") == [401]

    assert await statuses(limited, wrong(1), "198.51.100.99, 192.0.2.6") == [429]


async def test_wrong_tokens_for_readyz_count_too(limited: Site) -> None:
    found = [(await ask(limited, text, "192.0.2.7", "/readyz"))[0] for text in wrong(11)]

    assert found == [401] * 10 + [429]
    assert (await ask(limited, None, "192.0.2.7", "/readyz"))[0] == 200


async def test_a_token_that_asks_too_often_is_429_and_another_one_is_not(limited: Site, token: str) -> None:
    answers = await asyncio.gather(*(ask(limited, token, "192.0.2.8") for _ in range(100)))
    other = await make_token(limited.dsn, "calm")

    refused = [answer for answer in answers if answer[0] == 429]
    assert {answer[0] for answer in answers} == {200, 429}
    assert all(headers["Retry-After"] == "1" for _, _, headers in refused)
    assert await statuses(limited, [other], "192.0.2.8") == [200]
    await asyncio.sleep(1.0)
    assert await statuses(limited, [token], "192.0.2.8") == [200]


@pytest.fixture
async def large(limited: Site, tmp_path: Path) -> AsyncIterator[str]:
    """The path of a download that no socket's buffers hold."""
    path = limited.switch.recordings / DOMAIN / "105" / "msg_large.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF")
    os.truncate(path, 64 * 1024 * 1024)
    pool = await open_pool(limited.dsn, size=1, application_name="test")
    row = switch_row(username="105", file_path=str(path))
    await insert(pool, row)
    yield f"/v1/voicemail/message/{row['uuid']}/download"
    await pool.execute("DELETE FROM voicemail_msgs WHERE uuid = $1", row["uuid"])
    pool.terminate()


async def begin(site: Site, path: str, token: str, stack: AsyncExitStack) -> asyncio.StreamWriter:
    """A client that asks for a download, reads its first line, and no more."""
    url = site.client._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    stack.callback(writer.transport.abort)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 200")
    return writer


async def until_status(site: Site, path: str, token: str, status: int) -> None:
    """Wait until the first bytes of a download come with this status."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(site.client._base_url) as session:
        while True:
            async with session.head(path, headers={"Authorization": f"Bearer {token}"}) as answer:
                if answer.status == status:
                    return
            await asyncio.sleep(0.3)


async def test_a_token_has_four_downloads_at_once(limited: Site, token: str, large: str) -> None:
    async with AsyncExitStack() as stack:
        writers = [await begin(limited, large, token, stack) for _ in range(4)]

        status, body, headers = await ask(limited, token, None, large)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert "4 downloads" in body["detail"]
        other = await make_token(limited.dsn, "downloads-too")
        await until_status(limited, large, other, 200)

        writers[0].transport.abort()
        await until_status(limited, large, token, 200)


async def test_a_download_that_is_refused_or_ends_at_once_takes_no_place(limited: Site, token: str, large: str) -> None:
    async def calmly(path: str, **headers: str) -> int:
        """The status, not of an attempt that came too soon after others."""
        while True:
            status, body, _ = await ask(limited, token, None, path, **headers)
            if body.get("detail") != "this token asks too often":
                return status
            await asyncio.sleep(0.3)

    for _ in range(6):
        assert await calmly(large.replace("/download", "x/download")) == 404
        assert await calmly(large + "?nonsense=1") == 422
        assert await calmly(large, Range="bytes=0-3") == 206
        assert await calmly(large, Range="bytes=999999999-") == 416


LONG_CHAIN = ", ".join(f"198.51.100.{number % 256}" for number in range(500))


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (["192.0.2.9"], "192.0.2.9"),
        (["192.0.2.9:51234"], "192.0.2.9"),
        (["2001:DB8:0:0::9"], "2001:db8::9"),
        (["[2001:db8::9]:443"], "2001:db8::9"),
        (["::ffff:192.0.2.9"], "192.0.2.9"),
        # The chain: client, then proxies of ours.
        (["192.0.2.9, 10.1.2.3"], "192.0.2.9"),
        (["192.0.2.9, 10.1.2.3, fd00:20::7"], "192.0.2.9"),
        (["192.0.2.9", "10.1.2.3"], "192.0.2.9"),
        # What the client wrote itself stands to the left.
        (["1.1.1.1, 192.0.2.9"], "192.0.2.9"),
        (["1.1.1.1, 192.0.2.9, 10.1.2.3"], "192.0.2.9"),
        (["10.0.0.1, 192.0.2.9, 10.1.2.3"], "192.0.2.9"),
        (["1.1.1.1", "192.0.2.9"], "192.0.2.9"),
        ([f"{LONG_CHAIN}, 192.0.2.9"], "192.0.2.9"),
        # Another network's proxy is not ours.
        (["1.1.1.1, fd00:21::7"], "fd00:21::7"),
        # All of them ours: the one who asked is among them.
        (["10.0.0.1, 10.1.2.3"], "10.0.0.1"),
        # What is no address says nothing, and neither does anything to the left of it.
        (["garbage"], "127.0.0.1"),
        (["1.1.1.1, garbage"], "127.0.0.1"),
        (["1.1.1.1, garbage, 10.1.2.3"], "10.1.2.3"),
        (["unknown"], "127.0.0.1"),
        ([""], "127.0.0.1"),
        (["1.1.1.1,"], "127.0.0.1"),
        ([",,,"], "127.0.0.1"),
        (["1.1.1.1, 999.1.1.1"], "127.0.0.1"),
        (["1.1.1.1, 192.0.2.9 192.0.2.10"], "127.0.0.1"),
        (["1.1.1.1, 192.0.2.9:port"], "127.0.0.1"),
        (["1.1.1.1, \xff\xfe"], "127.0.0.1"),
        (["1.1.1.1, " + "9" * 5000], "127.0.0.1"),
        (["1.1.1.1, ' OR 1=1 --"], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
    ids=range(29),
)  # fmt: skip
async def test_the_client_is_the_rightmost_hop_that_is_not_trusted(limited: Site, header: list[str], address: str) -> None:
    headers = [("X-Forwarded-For", line) for line in header]
    with capture_logs() as logs:
        async with aiohttp.ClientSession(limited.client._base_url) as session, session.get(LIST, headers=headers) as answer:
            assert answer.status == 401

    assert [line["address"] for line in logs if line["event"] == "request"] == [address]


async def test_forwarded_is_not_believed(limited: Site) -> None:
    with capture_logs() as logs:
        await ask(limited, None, "192.0.2.9", Forwarded="for=198.51.100.1;proto=https")

    assert [line["address"] for line in logs if line["event"] == "request"] == ["192.0.2.9"]


async def test_a_peer_that_is_no_trusted_proxy_is_believed_nothing(api: Site, extension: str) -> None:
    pool = await open_pool(api.dsn, size=1, application_name="test")
    await insert(pool, switch_row(username=extension))
    with capture_logs() as logs:
        path = f"/v1/voicemail/message?extension={extension}"
        _, page, _ = await ask(api, TOKEN, "192.0.2.9", path, **{"X-Forwarded-Proto": "https"})
    pool.terminate()

    assert [line["address"] for line in logs if line["event"] == "request"] == ["127.0.0.1"]
    assert page["data"][0]["download_url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("given", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http", "http"), ("ftp", "http"), ("", "http"), ("http, https", "https"),
     ("https://evil.example/", "http"), ("javascript", "http")],
)  # fmt: skip
async def test_links_have_the_scheme_that_a_trusted_proxy_names(limited: Site, given: str, scheme: str) -> None:
    pool = await open_pool(limited.dsn, size=1, application_name="test")
    row = switch_row(username="106")
    await insert(pool, row)
    token = await make_token(limited.dsn, f"links-{os.urandom(6).hex()}")
    headers = {"X-Forwarded-Proto": given, "Host": "voicemail.example.com"}
    _, message, _ = await ask(limited, token, "192.0.2.9", f"/v1/voicemail/message/{row['uuid']}", **headers)
    pool.terminate()

    assert message["download_url"].startswith(f"{scheme}://voicemail.example.com/v1/")


async def test_links_begin_with_the_public_url_whatever_the_proxy_and_the_client_say(database: str, tmp_path: Path) -> None:
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    try:
        await site.open(http_host="0.0.0.0", public_url="https://voicemail.example.com", trusted_proxies="127.0.0.1")
        left = await site.switch.leave_message((await site.create())["extension"])
        headers = {"X-Forwarded-Proto": "http", "Host": "evil.example"}
        _, message, _ = await ask(site, TOKEN, "192.0.2.9", f"/v1/voicemail/message/{left.uuid}", **headers)
    finally:
        await site.close()

    assert message["download_url"] == f"https://voicemail.example.com/v1/voicemail/message/{left.uuid}/download"


async def test_every_line_of_a_request_has_the_address_also_of_one_that_was_too_much(limited: Site, token: str) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(ask(limited, token, "192.0.2.10") for _ in range(100)))

    lines = [line for line in logs if line["event"] == "request"]
    assert {line["status"] for line in lines} == {200, 429}
    assert {line["address"] for line in lines} == {"192.0.2.10"}
    assert len({line["token"] for line in lines}) == 1


async def test_the_description_tells_of_429(api: Site) -> None:
    document = await api.get("/openapi.json")

    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path == "/healthz":
                continue
            assert operation["responses"]["429"]["headers"]["Retry-After"]["schema"]["type"] == "integer"
            assert "application/problem+json" in operation["responses"]["429"]["content"]
    download = document["paths"]["/v1/voicemail/message/{key}/download"]["get"]
    assert "downloads" in download["responses"]["429"]["description"]
