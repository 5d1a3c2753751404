"""What the service is measured against, each in a process of its own: ``python -m benchmarks.peers list|list-without-reset|files|mail``."""

import asyncio
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import orjson
import uvloop
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session


def tell(line: str) -> None:
    """Write a line that the benchmark reads."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


PAGE = """
SELECT uuid, created_epoch, cid_name, cid_number, message_len, username,
    (SELECT count(*) FROM voicemail_msgs WHERE username = $1 AND domain = $2 AND flags IS DISTINCT FROM 'delete') AS total
FROM voicemail_msgs WHERE username = $1 AND domain = $2 AND flags IS DISTINCT FROM 'delete'
ORDER BY created_epoch DESC NULLS LAST, uuid LIMIT $3 OFFSET $4
"""


async def plainest(dsn: str, domain: str, *, reset: bool) -> None:
    """The plainest handler that lists the messages of a mailbox: a pool, one statement, seven keys; no token, no log.

    ``reset``: the pool is as asyncpg makes it, which resets a connection after each use.
    """
    zone = ZoneInfo("Asia/Ho_Chi_Minh")

    async def nothing(_connection: object) -> None:
        return

    pool = await asyncpg.create_pool(dsn, min_size=10, max_size=10, reset=None if reset else nothing)

    async def page(request: web.Request) -> web.Response:
        query = request.query
        limit, offset = int(query.get("limit", 10)), int(query.get("offset", 0))
        rows = await pool.fetch(PAGE, query["extension"], domain, limit, offset)
        base = f"http://{request.host}/v1/voicemail/message"
        data = [
            {
                "id": row["uuid"],
                "created_at": datetime.fromtimestamp(row["created_epoch"], zone).isoformat(),
                "caller_id_name": row["cid_name"],
                "caller_id_number": row["cid_number"],
                "duration": row["message_len"],
                "extension": row["username"],
                "download_url": f"{base}/{row['uuid']}/download",
            }
            for row in rows
        ]
        total = rows[0]["total"] if rows else 0
        body = orjson.dumps({"data": data, "limit": limit, "offset": offset, "total": total})
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_get("/v1/voicemail/message", page)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tell(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


async def files(folder: str) -> None:
    """aiohttp's own way to send a file: no token, no database, no audit."""

    async def download(request: web.Request) -> web.FileResponse:
        return web.FileResponse(Path(folder) / request.match_info["name"])

    application = web.Application()
    application.router.add_get("/{name}", download)
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
    if sys.argv[1] == "files":
        uvloop.run(files(sys.argv[2]))
    uvloop.run(mail() if sys.argv[1] == "mail" else plainest(sys.argv[2], sys.argv[3], reset=sys.argv[1] == "list"))
