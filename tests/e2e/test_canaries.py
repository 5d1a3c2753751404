"""No secret leaves the service: not into its log, its answers, its tables or the list of processes, whatever a client sends."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from tests.support.pbx import Site, stand_in
from tests.support.raw_http import exchange
from tests.support.service_process import ServiceProcess

TOKEN = "canary-token-5e1f0c"
PIN = "73310946"
OTHER_PIN = "90417733"
SMTP, ESL = "canary-smtp-77aa", "canary-esl-88bb"
KEY = base64.b64encode(b"canary-sealing-key-of-32-bytes..").decode()
ROW = "SELECT to_jsonb(t)::text FROM voicemail.{} AS t"


class Guarded:
    """A service that was given canaries, and what it wrote."""

    def __init__(self, site: Site, port: int, service: ServiceProcess, dsn: str) -> None:
        self.site, self.port, self.service, self.dsn = site, port, service, dsn
        self.answers: list[bytes] = []

    async def send(self, *pieces: bytes, half_close: bool = False, pause: float = 0.0) -> None:
        """Send bytes, and keep the answer."""
        self.answers.append(await exchange(self.port, *pieces, half_close=half_close, pause=pause))


@pytest.fixture
async def guarded(database: str, tmp_path: Path, unused_port: int) -> AsyncIterator[Guarded]:
    """A service at log level debug whose secrets are canaries."""
    switch = stand_in(database, tmp_path)
    switch.password = ESL
    site = Site(database, tmp_path, switch)
    await switch.start()
    await site.mail.start()
    environment = site.environment(
        api_token=TOKEN, secret_key=KEY, smtp_username="nobody", smtp_password=SMTP, esl_password=ESL, http_port=unused_port,
        log_level="debug", http_header_seconds=1, http_body_seconds=1, http_idle_seconds=1,
    )  # fmt: skip
    service = await ServiceProcess.start(environment, tmp_path, unused_port, status="")
    try:
        yield Guarded(site, unused_port, service, database)
    finally:
        await service.kill()
        await site.mail.stop()
        await switch.stop()


def head(method: str, path: str, *lines: str) -> bytes:
    """The head of a request with the right token."""
    text = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: canary", f"Authorization: Bearer {TOKEN}", *lines))
    return f"{text}\r\n\r\n".encode()


async def drive(guarded: Guarded) -> None:
    """All that a client may do wrong, and a little of what is right."""
    body = f'{{"extension":"101","password":"{PIN}","enabled":true}}'.encode()
    json = "Content-Type: application/json"
    right = f"Content-Length: {len(body)}"
    close = "Connection: close"
    put = ("PUT", "/v1/voicemail/101", json)
    send = guarded.send
    await send(head("POST", "/v1/voicemail", json, right, close) + body)
    await send(head("POST", "/v1/voicemail", json, right, close) + body)  # a conflict
    await send(head("GET", "/v1/voicemail/101", close))
    # A token file with a line end of Windows, and one with a line more.
    await send(f"GET /v1/voicemail HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {TOKEN}\r\r\n\r\n".encode())
    await send(f"GET /v1/voicemail HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {TOKEN}\n\r\n\r\n".encode())
    await send(f"GET /v1/voicemail HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer\r\n{TOKEN}\r\n\r\n".encode())
    await send(f"GET /v1/voicemail HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {TOKEN}\x00\r\n\r\n".encode())
    await send(f"GET /v1/voicemail HTTP/1.1\r\nHost: c\r\nBearer {TOKEN}\r\n\r\n".encode())
    await send(f"Authorization: Bearer {TOKEN}\r\n\r\n".encode())
    await send(f"GET {TOKEN} {TOKEN}\r\n\r\n".encode())
    await send(head("GET", "/v1/voicemail", f"X-Long: {TOKEN * 600}"))
    await send(head("GET", "/v1/voicemail", f"Content-Length: {TOKEN}"))
    # Bodies that are longer or shorter than the head says, in one packet and in many.
    await send(head(*put, "Content-Length: 5") + body)
    await send(head(*put, f"Content-Length: {len(body) + 50}") + body, half_close=True)
    await send(head(*put, "Content-Length: 3", right) + body)
    await send(*(bytes([byte]) for byte in head(*put, "Content-Length: 9") + body), pause=0.0)
    # Chunks.
    chunked = head(*put, "Transfer-Encoding: chunked")
    await send(chunked + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n", half_close=True)
    await send(chunked + b"zz\r\n" + body + b"\r\n0\r\n\r\n")
    await send(chunked + body, half_close=True)
    await send(chunked, f"{len(body) - 3:x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
    await send(chunked, f"{len(body) + 9:x}\r\n".encode() + body, half_close=True)
    await send(head(*put, "Transfer-Encoding: chunked", right) + body)
    await send(head(*put, "Content-Encoding: gzip", right) + body)
    await send(head(*put, right) + body.replace(b'"extension"', b'"\xff"'))
    await send(head("PUT", "/v1/voicemail/101", json, right, close) + f'{{"password":"{OTHER_PIN}","enabled":"{PIN}"}}'.encode())
    await send(head("GET", "/v1/voicemail", "Expect: a-miracle", close))
    await send(head("GET", "/readyz", close))
    await send(head("GET", "/metrics", close))


async def test_canaries_stay_in_their_cage(guarded: Guarded) -> None:
    await drive(guarded)
    base = f"http://127.0.0.1:{guarded.port}"
    async with aiohttp.ClientSession(base, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for path in ("/readyz", "/metrics", "/v1/voicemail/message", "/v1/domain", "/v1/token"):
            async with client.get(path) as answer:
                guarded.answers.append(await answer.read())
    await guarded.site.switch.leave_message("101")
    await asyncio.sleep(0.5)

    secrets = {"token": TOKEN, "PIN": PIN, "other PIN": OTHER_PIN, "SMTP": SMTP, "ESL": ESL, "key": KEY}
    secrets["database"] = urlsplit(guarded.dsn).password or "there is always one"
    places = {"log": guarded.service.log.read_bytes(), "commands": _command_lines(guarded), "tables": await _tables(guarded.dsn)}
    found = [
        f"{name} in {place}"
        for place, content in places.items()
        for name, secret in secrets.items()
        if secret.encode() in content
    ]
    # The fixed contract shows a mailbox's own PIN to whoever may read the mailbox; nothing else shows any.
    answers = b"\n".join(answer for answer in guarded.answers)
    found += [f"{name} in answers" for name, secret in secrets.items() if name != "PIN" and secret.encode() in answers]
    problems = b"\n".join(answer for answer in guarded.answers if b"problem+json" in answer)
    found += ["PIN in problems"] if PIN.encode() in problems else []

    assert found == []
    assert b"Traceback" not in places["log"]
    assert all(answer.startswith(b"HTTP/1.") for answer in guarded.answers[:-5] if answer)


def _command_lines(guarded: Guarded) -> bytes:
    """Of the service and whatever it started; a test's own command may hold anything."""
    return b"\n".join(
        (folder / "cmdline").read_bytes()
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and (folder / "cmdline").exists()
    )


async def _tables(dsn: str) -> bytes:
    """All that is in the service's own tables, as text."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'voicemail'")
        rows = [row[0] for name in names for row in await connection.fetch(ROW.format(name["tablename"]))]
        return "\n".join(rows).encode()
    finally:
        await connection.close()
