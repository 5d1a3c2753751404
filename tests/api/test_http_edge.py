"""The server's edge on raw sockets: deadlines, caps, compressed and malformed requests, slow readers."""

import asyncio
import contextlib
import gzip
import socket
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from benchmarks.crowd import bomb
from tests.support.databases import another
from tests.support.pbx import TOKEN, Site, stand_in
from tests.support.raw_http import Answer, exchange, first_answer, is_closed, parsed

HEAD, BODY, IDLE, STALL = 0.6, 1.0, 1.2, 1.0
CONNECTIONS, PER_ADDRESS = 24, 8
AUTHORIZED = f"Host: edge\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
HALF = b"GET /healthz HTTP/1.1\r\nHost: ed"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: edge\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
async def edge(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A service with limits that a test can wait for."""
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE test_edge TEMPLATE {template}")
    folder, dsn = tmp_path_factory.mktemp("edge"), another(postgres, "test_edge")
    site = Site(dsn, folder, stand_in(dsn, folder))
    try:
        await site.open(
            http_header_seconds=HEAD, http_body_seconds=BODY, http_idle_seconds=IDLE, http_stall_seconds=STALL,
            http_connections=CONNECTIONS, http_connections_per_address=PER_ADDRESS,
            downloads_at_once=1,
        )  # fmt: skip
        yield site
    finally:
        await site.close()
        await admin.execute("DROP DATABASE test_edge WITH (FORCE)")
        await admin.close()


@pytest.fixture
def port(edge: Site) -> int:
    """Where the service listens."""
    return edge.client._base_url.port or 0


async def half_open(port: int, number: int, source: str, sent: bytes = HALF) -> list[asyncio.StreamWriter]:
    """Connections of an address that have sent a part of a request."""
    found = []
    for _ in range(number):
        _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.write(sent)
        found.append(writer)
    await asyncio.sleep(0.05)
    return found


async def rest_of(reader: asyncio.StreamReader) -> Answer | None:
    """The answer at the end of a connection; None if the client went on sending and its system dropped the answer for that."""
    try:
        return parsed(await asyncio.wait_for(reader.read(), 20))
    except ConnectionError:
        return None


async def test_errors_of_the_parser_are_problems_that_quote_nothing(port: int) -> None:
    for request in (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: s3cr3t\x00\r\n\r\n",
        b"s3cr3t s3cr3t\r\n\r\n",
        b"GET / HTTP/1.1\r\ns3cr3t\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"s3cr3t" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%s3cr3t/%ff%00 HTTP/9.7\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00s3cr3t\r\n\r\n",
    ):
        raw = await exchange(port, request)

        answer = parsed(raw)
        assert answer.status == 400, request
        assert answer.problem["status"] == 400
        assert len(answer.headers["x-request-id"]) == 32
        assert answer.headers.get("connection") == "close" or raw.startswith(b"HTTP/1.0")
        assert b"s3cr3t" not in raw


async def test_no_answer_names_the_server_s_version(edge: Site, port: int) -> None:
    for request in (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /docs/rapidoc-min.js HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /v1/voicemail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n" + AUTHORIZED + b"\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nExpect: a-miracle\r\n" + AUTHORIZED + b"\r\n",
        b"nonsense\r\n\r\n",
    ):
        raw = await exchange(port, request)

        answer = parsed(raw)
        assert answer.headers["server"] == "voicemail", request
        assert answer.headers["x-request-id"], request
        assert b"aiohttp" not in raw.partition(b"\r\n\r\n")[0]
        if answer.status >= 400:
            assert answer.problem["status"] == answer.status


@pytest.mark.parametrize("token", [b"", f"Authorization: Bearer {TOKEN}\r\n".encode()])
@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"deflate", b"br", b"zstd", b"identity, gzip", b"nonsense"])
async def test_a_compressed_body_is_refused_with_and_without_a_token(port: int, token: bytes, encoding: bytes) -> None:
    body = gzip.compress(b" " * 1_000_000)
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n"

    answer = parsed(await exchange(port, head % (encoding, len(body)) + token + JSON + b"\r\n" + body))

    assert answer.status == 415
    assert answer.problem["detail"] == "send the body as it is, without a Content-Encoding"


async def test_bombs_are_not_inflated(edge: Site, port: int) -> None:
    body = bomb(200)
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n"
    began = time.process_time()

    for lines in (b"Host: edge\r\n", AUTHORIZED) * 5:
        raw, _ = await asyncio.gather(
            exchange(port, head + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body), edge.get("/healthz")
        )
        assert parsed(raw).status == 415

    # To inflate one of them takes half a second.
    assert time.process_time() - began < 2


async def test_an_identity_encoding_is_none(edge: Site, port: int) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nContent-Encoding: identity\r\n\r\n"

    assert parsed(await exchange(port, head)).status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [(b"Host: edge\r\n", 401), (AUTHORIZED, 415), (AUTHORIZED + b"Content-Encoding: gzip\r\n" + JSON, 415)],
)
async def test_a_refusal_with_an_unread_body_closes(port: int, lines: bytes, status: int) -> None:
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nContent-Length: 5000\r\n" + lines + b"\r\n"

    answer, reader, writer = await first_answer(port, head, b"x" * 100)

    assert (answer.status, answer.headers["connection"]) == (status, "close")
    # What follows is the body still, and no request.
    writer.write(b"x" * 4900 + HEALTH)
    assert await is_closed(reader)
    writer.close()


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: identity, chunked, chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"X: a\r\n Transfer-Encoding: chunked\r\n",
        b"X: a\rTransfer-Encoding: chunked\r\n",
    ],
)
async def test_no_request_hides_in_the_body_of_another(port: int, framing: bytes) -> None:
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\n" + framing + JSON + AUTHORIZED + b"\r\n"

    raw = await exchange(port, head + b"0\r\n\r\n" + HEALTH)

    assert parsed(raw).status == 400
    assert raw.count(b"HTTP/1.") == 1
    assert b'"status":"ok"' not in raw


async def test_a_refusal_of_a_body_that_has_arrived_keeps_the_connection(port: int) -> None:
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nHost: edge\r\nContent-Length: 2\r\n\r\n{}"

    answer, reader, writer = await first_answer(port, head)

    assert answer.status == 401
    writer.write(HEALTH)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_malformed_body_is_answered_at_once(port: int) -> None:
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + JSON + AUTHORIZED + b"\r\n"

    answer = parsed(await exchange(port, head, b"4\r\n{}  \r\n", b"zz\r\n", pause=0.05))

    assert (answer.status, answer.problem["detail"]) == (400, "the body is malformed")


@pytest.mark.parametrize("pieces", [[HALF], [b"GET"], [b"G", b"ET /", b"heal"]])
async def test_headers_that_do_not_end_are_a_408(port: int, pieces: list[bytes]) -> None:
    answer = parsed(await exchange(port, *pieces, pause=0.1))

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert answer.problem["detail"] == "the headers did not arrive in time"
    assert answer.headers["x-request-id"]


async def test_a_byte_now_and_then_does_not_prolong_the_headers(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def trickle() -> None:
        for byte in HALF:
            writer.write(bytes([byte]))
            await asyncio.sleep(HEAD / 4)

    trickling = asyncio.ensure_future(trickle())
    answer = await rest_of(reader)
    assert not trickling.done()
    trickling.cancel()

    assert answer is None or answer.status == 408
    writer.close()


async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    assert await exchange(port) == b""


async def test_the_second_request_s_headers_have_a_deadline_too(port: int) -> None:
    answer, reader, writer = await first_answer(port, HEALTH)
    writer.write(HALF)

    assert answer.status == 200
    assert parsed(await asyncio.wait_for(reader.read(), 20)).status == 408
    writer.close()


async def test_an_idle_connection_is_closed_without_a_word(port: int) -> None:
    answer, reader, writer = await first_answer(port, HEALTH)

    assert answer.status == 200
    assert not await is_closed(reader, within=IDLE / 4)
    assert await is_closed(reader)
    writer.close()


async def test_a_body_that_does_not_end_is_a_408(port: int) -> None:
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nContent-Length: 500\r\n" + JSON + AUTHORIZED + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)

    async def trickle() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(BODY / 8)

    trickling = asyncio.ensure_future(trickle())
    answer = await rest_of(reader)
    trickling.cancel()

    if answer is not None:
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert answer.problem["detail"] == "The body did not arrive in time."
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_fault(
    edge: Site, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    head = b"PUT /v1/voicemail/101 HTTP/1.1\r\nContent-Length: 500\r\n" + JSON + AUTHORIZED + b"\r\n{"
    capsys.readouterr()

    await exchange(port, head, half_close=True)
    await edge.get("/healthz")

    assert "request_failed" not in capsys.readouterr().out


async def test_half_open_connections_of_an_address_give_way_to_its_whole_requests(edge: Site, port: int) -> None:
    writers = await half_open(port, PER_ADDRESS * 3, "127.0.0.9")

    # Far within the deadline of the headers of those that wait.
    answers = [await exchange(port, HEALTH[:-2] + b"Connection: close\r\n\r\n", source="127.0.0.9") for _ in range(4)]

    assert [parsed(raw).status for raw in answers] == [200] * 4
    for writer in writers:
        writer.close()


async def test_half_open_connections_of_many_addresses_give_way_to_all(edge: Site, port: int) -> None:
    writers = [writer for last in range(10, 20) for writer in await half_open(port, PER_ADDRESS - 1, f"127.0.0.{last}")]

    answer = parsed(await exchange(port, HEALTH[:-2] + b"Connection: close\r\n\r\n", source="127.0.0.40"))

    assert answer.status == 200
    assert (await edge.get("/healthz"))["status"] == "ok"
    for writer in writers:
        writer.close()


async def test_a_slow_reader_gets_all_and_one_that_stalls_is_cut(edge: Site, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    extension = "777"
    await edge.create(extension, local_after_email=True, mail_to=None)
    left = await edge.switch.leave_message(extension)
    content = left.path.read_bytes()
    big = content[:44] + content[44:] * (6_000_000 // len(content) + 1)
    left.path.write_bytes(big)
    request = f"GET /v1/voicemail/message/{left.uuid}/download HTTP/1.1\r\nConnection: close\r\n".encode() + AUTHORIZED + b"\r\n"
    loop = asyncio.get_running_loop()

    async def connect() -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, request)
        return client

    slow = await connect()
    received = b""
    async with asyncio.timeout(30):
        while piece := await loop.sock_recv(slow, 400_000):
            received += piece
            await asyncio.sleep(max(0.0, 2.5 * STALL * len(piece) / len(big)))
    assert received.partition(b"\r\n\r\n")[2] == big
    slow.close()

    stalled = await connect()
    path = f"/v1/voicemail/message/{left.uuid}/download"
    async with asyncio.timeout(30):
        while (await edge.client.head(path)).status != 429:  # the only place of the token is taken
            await asyncio.sleep(0.02)
        while (await edge.client.head(path)).status != 200:
            await asyncio.sleep(0.1)
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := await asyncio.wait_for(loop.sock_recv(stalled, 1 << 20), 20):
            received += piece
    stalled.close()
    assert 0 < len(received) < len(big)
