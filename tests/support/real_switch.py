"""A real FreeSWITCH on the lab's configuration as it stands, for as long as a run of the tests."""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from app.lab.freeswitch import free_ports
from app.sandbox.message_actions import LeftMessage
from app.sandbox.prompts import write_prompts
from tests.support.plain_client import PlainClient
from tests.support.switches_under_test import write_tone

CONFIGURATION = Path(__file__).parents[2] / "freeswitch_conf"
ROW = "SELECT EXISTS (SELECT FROM voicemail_msgs WHERE file_path = $1)"
SCHEMA = "SELECT to_regclass('voicemail.message') IS NOT NULL"
RECORDED = "SELECT EXISTS (SELECT FROM voicemail.message WHERE file_path = $1)"
STARTS = 60.0  # seconds; the first start of all creates a dozen SQLite files
STOPS = 20.0


class RealSwitch:
    """FreeSWITCH as a process: ``FREESWITCH_BIN``, or ``freeswitch`` on PATH."""

    def __init__(self, dsn: str, folder: Path, *, configuration: Path = CONFIGURATION, **environment: str) -> None:
        """``environment``: more variables of vars.xml."""
        self.recordings, self.directory = folder / "recordings", folder / "directory"
        self.password = "a-password-of-the-tests"
        self.log = folder / "log" / "freeswitch.log"
        self.port, self.sip_port = free_ports(2)
        self._dsn, self._folder, self._configuration = dsn, folder, configuration
        database = urlsplit(dsn)
        self._environment = (
            os.environ
            | {
                "VOICEMAIL_DOMAIN": "lab.local",
                "VOICEMAIL_ESL_PORT": str(self.port),
                "VOICEMAIL_ESL_PASSWORD": self.password,
                "FREESWITCH_DB_HOST": database.hostname or "",
                "FREESWITCH_DB_PORT": str(database.port),
                "FREESWITCH_DB_NAME": database.path.strip("/"),
                "FREESWITCH_DB_USER": unquote(database.username or ""),
                "FREESWITCH_DB_PASSWORD": unquote(database.password or ""),
                "FREESWITCH_RECORDINGS_PATH": str(self.recordings),
                "FREESWITCH_DIRECTORY_PATH": str(self.directory),
                "FREESWITCH_PROMPTS_PATH": str(folder / "prompts"),
                "FREESWITCH_SIP_PORT": str(self.sip_port),
            }
            | environment
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until its Event Socket lets us in and mod_voicemail is there."""
        binary = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")
        assert binary, "no FreeSWITCH"
        folders = {name: self._folder / name for name in ("log", "db", "run", "storage", "prompts")}
        for path in (*folders.values(), self.recordings, self.directory):
            path.mkdir(parents=True, exist_ok=True)
        write_prompts(folders["prompts"])
        self._process = await asyncio.create_subprocess_exec(
            binary, "-nf", "-nc", "-nonat", "-conf", str(self._configuration), "-log", str(folders["log"]),
            "-db", str(folders["db"]), "-run", str(folders["run"]), "-storage", str(folders["storage"]),
            "-recordings", str(self.recordings), "-sounds", str(folders["prompts"]),
            env=self._environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(STARTS):
            while not await self._ready():
                assert self._process.returncode is None, f"FreeSWITCH ended while it started; see {self.log}"
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """Stop it as an operator does, and by force if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError, AssertionError, TimeoutError):
            async with asyncio.timeout(5), await PlainClient.connect(self.port, self.password) as client:
                await client.send(b"api fsctl shutdown now\n\n")
                await asyncio.sleep(0.2)
        try:
            await asyncio.wait_for(process.wait(), STOPS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def leave_message(
        self,
        extension: str,
        *,
        caller_name: str = "Alice",
        caller_number: str = "0891234567",
        talking: float = 1.0,
        domain: str = "lab.local",
    ) -> LeftMessage:
        """Call a mailbox and talk. Raises ``LookupError`` if the caller is turned away."""
        # The first second goes by under the beep.
        path = write_tone(self._folder / "caller.wav", talking + 1.3)
        variables = (
            "skip_greeting=true,skip_instructions=true,"
            f"effective_caller_id_name='{caller_name}',effective_caller_id_number='{caller_number}'"
        )
        async with await PlainClient.connect(self.port, self.password) as client:
            await client.command("event plain CUSTOM vm::maintenance")
            call = await client.api(
                f"originate {{{variables}}}loopback/app=playback:{path} '&voicemail(default {domain} {extension})'"
            )
            assert call.startswith("+OK "), call
            while await client.api(f"uuid_exists {call.removeprefix('+OK ').strip()}") == "true":
                await asyncio.sleep(0.05)
            # Not by the row: it is written after the call has ended, and a service may have mailed and removed it by then.
            # This call's uuid is another leg's, so the event is known by its mailbox.
            try:
                left = await client.event("leave-message", limit=2.0, VM_User=extension, VM_Domain=domain)
            except TimeoutError:
                raise LookupError(f"the switch takes no messages for {extension}") from None
            return LeftMessage(extension, left["VM-UUID"], Path(left["VM-File-Path"]), await self._stored(left["VM-File-Path"]))

    async def _stored(self, file_path: str) -> bool:
        """Whether the row of a message came, or was recorded by the service before it went."""
        database = await asyncpg.connect(self._dsn)
        try:
            for _ in range(20):
                if await database.fetchval(ROW, file_path) or (
                    await database.fetchval(SCHEMA) and await database.fetchval(RECORDED, file_path)
                ):
                    return True
                await asyncio.sleep(0.1)
            return False
        finally:
            await database.close()

    async def _ready(self) -> bool:
        try:
            async with await PlainClient.connect(self.port, self.password) as client:
                # The last module of modules.conf.xml.
                return await client.api("module_exists mod_voicemail") == "true" and "is ready" in await client.api("status")
        except (OSError, EOFError, TimeoutError):
            return False
