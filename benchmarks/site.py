"""A PBX to be measured: PostgreSQL, the stand-in switch and a mail server, and the service in a process of its own."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg

from app.access.grant import Grant
from app.access.model import NewToken
from app.access.tokens import Tokens
from app.addressing import Domain
from app.database.pool import open_pool
from app.embedded.postgres import EmbeddedPostgres
from app.sandbox.switch import StandInSwitch

DOMAIN = "bench.local"
TOKEN = "a-token-of-the-benchmarks"
CHECKOUT = Path(__file__).parents[1]


class Peer:
    """A process of ours that tells things, a line each."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

    async def line(self, limit: float = 120.0) -> str:
        """The next line."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), limit)
        if not line:
            raise EOFError("a peer ended")
        return line.decode().strip()


@asynccontextmanager
async def peer(*arguments: str, module: str = "benchmarks.peers") -> AsyncIterator[Peer]:
    """A peer for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE
    )
    try:
        started = Peer(process, 0)
        started.port = int(await started.line())
        yield started
    finally:
        process.kill()
        await process.wait()


class Site:
    """What a benchmark measures."""

    def __init__(self, folder: Path, dsn: str, switch: StandInSwitch, mail: Peer) -> None:
        self.folder, self.dsn, self.switch, self.mail = folder, dsn, switch, mail
        self.client: aiohttp.ClientSession
        self.port = 0
        self._process: asyncio.subprocess.Process
        self._stack = AsyncExitStack()

    async def start(self, *, domain: str = DOMAIN) -> float:
        """Start the service; seconds until it is ready."""
        self.port = _unused_port()
        settings = {
            "DATABASE_URL": self.dsn, "DATA_DIR": self.folder, "HTTP_PORT": self.port, "API_TOKEN": TOKEN, "DOMAIN": domain,
            "ESL_PORT": self.switch.port, "ESL_PASSWORD": self.switch.password, "DIRECTORY_PATH": self.switch.directory,
            "RECORDINGS_PATH": self.switch.recordings, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": self.mail.port,
            "MAIL_FROM": f"voicemail@{domain}", "REQUESTS_A_SECOND": 1_000_000,
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}
        began = time.monotonic()
        log = (self.folder / "service.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "serve", cwd=CHECKOUT, stdout=log, stderr=log,
            env=kept | {f"VOICEMAIL_{name}": str(value) for name, value in settings.items()},
        )  # fmt: skip
        log.close()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = await self._stack.enter_async_context(
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=headers)
        )
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self.client.get("/readyz") as answer:
                        if (await answer.json())["status"] == "ok":
                            return time.monotonic() - began
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop the service."""
        await self._stack.aclose()
        self._process.terminate()
        await self._process.wait()

    def memory(self) -> float:
        """The service's resident memory, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def busy(self) -> float:
        """Seconds of a processor that the service has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def create(self, extension: str, **fields: object) -> str:
        """Create a mailbox; the state of its directory entry."""
        body = {"extension": extension, "password": "4321", "enabled": True} | fields
        async with self.client.post("/v1/voicemail", json=body) as answer:
            if answer.status != 201:
                raise RuntimeError(await answer.text())
            return str((await answer.json())["data"]["directory"]["state"])

    async def token(self, name: str) -> str:
        """A token with all rights, as the database keeps them."""
        pool = await open_pool(self.dsn, size=1, application_name="bench")
        try:
            operator = Grant.everything("benchmarks", Domain(DOMAIN))
            _made, text = await Tokens(pool, Domain(DOMAIN)).create(operator, NewToken(name, None, None))
            return text
        finally:
            pool.terminate()

    @asynccontextmanager
    async def database(self) -> AsyncIterator["asyncpg.Connection"]:
        """A connection of the benchmark's own."""
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[Site]:
    """Everything but the service."""
    for name in ("recordings", "directory"):
        (folder / name).mkdir(parents=True)
    async with EmbeddedPostgres(folder / "postgresql") as dsn, peer("mail") as mail:
        switch = StandInSwitch(dsn, folder / "recordings", folder / "directory", DOMAIN)
        await switch.start()
        try:
            yield Site(folder, dsn, switch, mail)
        finally:
            await switch.stop()


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
