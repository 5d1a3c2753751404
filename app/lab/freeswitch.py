"""FreeSWITCH as a process of this machine, on the shipped configuration, with a folder of its own for all it writes."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from app.errors import VoicemailError
from app.switch import commands
from app.switch.esl.event_socket import EventSocket

_STARTS = 60.0  # seconds; the first start of all creates a dozen SQLite files
_STOPS = 20.0
_LOOK = 0.2
_MODULES = ("autoload_configs/pre_load_modules.conf.xml", "autoload_configs/modules.conf.xml")
NO_FREESWITCH = (
    "there is no FreeSWITCH here: say where it is with FREESWITCH_BIN=/usr/bin/freeswitch, or put it on PATH. "
    "`docker compose up` brings its own; `make run` needs none"
)


def find_freeswitch() -> Path:
    """The program: FREESWITCH_BIN, or `freeswitch` on PATH. Raises ``VoicemailError``."""
    named = os.environ.get("FREESWITCH_BIN")
    found = shutil.which(named or "freeswitch")
    if found is None:
        raise VoicemailError(f"FREESWITCH_BIN={named} is no program" if named else NO_FREESWITCH)
    return Path(found)


def modules(configuration: Path) -> list[str]:
    """The modules that a configuration loads, those that others need first."""
    trees = [ElementTree.parse(configuration / name) for name in _MODULES]  # noqa: S314 - our own files
    return [str(element.get("module")) for tree in trees for element in tree.iter("load")]


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [int(found.getsockname()[1]) for found in sockets]
    for found in sockets:
        found.close()
    return ports


class FreeSwitch:
    """The switch, running inside ``async with``."""

    def __init__(
        self, program: Path, configuration: Path, folder: Path, *, database_url: str, password: str, domain: str
    ) -> None:
        """``folder``: of what it writes; ``recordings``, ``directory`` and ``prompts`` are in there, and must exist."""
        self.log = folder / "switch" / "log" / "freeswitch.log"
        self.port, sip_port = free_ports(2)
        self._program, self._configuration, self._folder = program, configuration, folder
        self._password = password
        database = urlsplit(database_url)
        self._variables: Mapping[str, str] = {
            "VOICEMAIL_DOMAIN": domain,
            "VOICEMAIL_ESL_PORT": str(self.port),
            "VOICEMAIL_ESL_PASSWORD": password,
            "FREESWITCH_DB_HOST": database.hostname or "",
            "FREESWITCH_DB_PORT": str(database.port),
            "FREESWITCH_DB_NAME": database.path.strip("/"),
            "FREESWITCH_DB_USER": unquote(database.username or ""),
            "FREESWITCH_DB_PASSWORD": unquote(database.password or ""),
            "FREESWITCH_RECORDINGS_PATH": str(folder / "recordings"),
            "FREESWITCH_DIRECTORY_PATH": str(folder / "directory"),
            "FREESWITCH_PROMPTS_PATH": str(folder / "prompts"),
            "FREESWITCH_SIP_PORT": str(sip_port),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it, and wait until it takes calls. Raises ``VoicemailError`` if it ends, or has not all modules."""
        own = self._folder / "switch"
        _end_leftover(own)
        places = {name: own / name for name in ("log", "db", "run", "storage", "certs", "temp")}
        for path in places.values():
            path.mkdir(parents=True, exist_ok=True)
        options = [word for name, path in places.items() for word in (f"-{name}", str(path))]
        with (own / "console.log").open("w") as console:
            self._process = await asyncio.create_subprocess_exec(
                self._program, "-nf", "-nc", "-nonat", "-conf", str(self._configuration), *options,
                "-recordings", str(self._folder / "recordings"), "-sounds", str(self._folder / "prompts"),
                env={**_inherited(), **self._variables}, stdin=asyncio.subprocess.DEVNULL, stdout=console, stderr=console,
                # Ctrl-C is for us: we stop it after the service.
                start_new_session=True,
            )  # fmt: skip
        try:
            await self._ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stop()

    async def _ready(self) -> None:
        link = EventSocket("127.0.0.1", self.port, self._password, longest_backoff=1.0)
        link.start()
        try:
            async with asyncio.timeout(_STARTS):
                while not await self._takes_calls(link):  # noqa: ASYNC110 - the switch tells nobody when it is ready
                    await asyncio.sleep(_LOOK)
            replies = {name: await link.command(commands.module_exists(name)) for name in modules(self._configuration)}
        except TimeoutError:
            raise VoicemailError(
                f"FreeSWITCH was not ready after {_STARTS:.0f} s ({link.error}); its log is {self.log}"
            ) from None
        finally:
            await link.close()
        if missing := [name for name, reply in replies.items() if reply.value != "true"]:
            raise VoicemailError(f"{self._program} has no {', '.join(missing)}, which the lab needs; its log is {self.log}")

    async def _takes_calls(self, link: EventSocket) -> bool:
        process = self._process
        if process is None or process.returncode is not None:
            raise VoicemailError(f"FreeSWITCH ended while it started; see {self.log} and {self._folder / 'switch/console.log'}")
        return link.connected and "is ready" in (await link.command(commands.status())).text

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
            try:
                async with asyncio.timeout(_STOPS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            except asyncio.CancelledError:
                process.kill()
                raise


def _end_leftover(folder: Path) -> None:
    """End the switch of a lab that was killed: it would write into the same folders."""
    with suppress(OSError, ValueError):
        pid = int((folder / "run" / "freeswitch.pid").read_text())
        if f"-run\0{folder / 'run'}\0" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


def _inherited() -> dict[str, str]:
    """This process's environment without the settings of another switch or service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("VOICEMAIL_", "FREESWITCH_"))}
