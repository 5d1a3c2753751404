"""Crowds of slow and malicious clients: the service goes on answering, writing mailboxes and sending mails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.pbx import TOKEN, Site, stand_in
from tests.support.raw_http import exchange, parsed
from tests.support.service_process import ServiceProcess

HALF = b"GET /v1/voicemail HTTP/1.1\r\nHost: crowd\r\nAuthori"
AUTHORIZED = f"Host: crowd\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


@asynccontextmanager
async def running(database: str, folder: Path, port: int, descriptors: int) -> AsyncIterator[tuple[Site, ServiceProcess]]:
    """A PBX whose service may open so many files."""
    site = Site(database, folder, stand_in(database, folder))
    await site.switch.start()
    await site.mail.start()
    environment = site.environment(http_port=port)
    try:
        service = await ServiceProcess.start(environment, folder, port, descriptors=descriptors)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as client:
                site.client = client
                yield site, service
        finally:
            await service.kill()
    finally:
        await site.mail.stop()
        await site.switch.stop()


@asynccontextmanager
async def half_open(port: int, number: int, addresses: int) -> AsyncIterator[None]:
    """Clients that have sent a half of a request, and come again when they are closed."""

    async def stay(address: str) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
                writer.write(HALF)
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
            await asyncio.sleep(0.5)

    tasks = [asyncio.ensure_future(stay(f"127.0.1.{client % addresses + 1}")) for client in range(number)]
    await asyncio.sleep(1.0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_half_sent_requests_leave_descriptors_for_mailboxes_and_mails(
    database: str, tmp_path: Path, unused_port: int
) -> None:
    async with running(database, tmp_path, unused_port, 256) as (site, service):
        print("descriptors at rest", service.open_files())
        async with half_open(unused_port, 260, 10):
            for extension in ("101", "102", "103"):
                mailbox = await site.create(extension)
                assert mailbox["directory"]["state"] == "applied"
            left = [await site.switch.leave_message(extension) for extension in ("101", "102", "103")]
            for message in left:
                await site.until(f"/v1/voicemail/message/{message.uuid}/notification", state="sent")
            raw = await exchange(
                unused_port, b"GET /v1/voicemail HTTP/1.1\r\nConnection: close\r\n" + AUTHORIZED + b"\r\n", source="127.0.2.1"
            )
            print("descriptors in the crowd", service.open_files())

        assert parsed(raw).status == 200
        assert service.open_files() < 256
        log = service.log.read_text()
        assert "few_descriptors" in log
        assert "Too many open files" not in log
