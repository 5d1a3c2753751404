"""What the service is measured against, each in a process of its own: ``python -m benchmarks.peers handler|mail``."""

import asyncio
import sys
import time
from pathlib import Path

import uvloop
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session


def tell(line: str) -> None:
    """Write a line that the benchmark reads."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def handler(body: bytes) -> None:
    """An aiohttp handler that returns the same bytes whatever is asked."""

    async def same(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_get("/{path:.*}", same)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tell(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


class Sink:
    """Takes every mail, tells when it came and who called, and keeps nothing."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by aiosmtpd for each mail."""
        content = envelope.content
        assert isinstance(content, bytes)
        start = content.index(b"Subject: ")
        subject = content[start : content.index(b"\r\n", start)].decode()
        tell(f"{time.monotonic()} {subject}")
        return "250 OK"


async def mail() -> None:
    """A mail server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Sink(), data_size_limit=2**30, loop=loop), "127.0.0.1", 0)
    tell(str(server.sockets[0].getsockname()[1]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(mail() if sys.argv[1] == "mail" else handler(Path(sys.argv[2]).read_bytes()))
