"""The stand-in switch: FreeSWITCH's Event Socket on a TCP port, and mod_voicemail's tables and files behind it.

It takes no calls: ``leave_message`` and ``phone_call`` do what one does, and the attributes below have it fail as real ones do.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit
from uuid import uuid4
from xml.sax.saxutils import quoteattr

from app.errors import DatabaseFailed
from app.sandbox import vm_commands as voicemail
from app.sandbox.directory import Directories, DirectoryBroken, DirectoryEntry, user_xml
from app.sandbox.esl_server import Session
from app.sandbox.events import EventSource
from app.sandbox.message_actions import Caller, LeftMessage, Mailboxes, audio_seconds
from app.sandbox.phone_calls import PhoneCall
from app.sandbox.tables import StandInTables
from app.sandbox.vm_fsdb_commands import FileStore

PASSWORD = "ClueCon"  # noqa: S105 - FreeSWITCH's well-known default
VERSION = "FreeSWITCH Version 1.10.12-release+git~20240802T210227Z~a88d069d6f~64bit (git a88d069 2024-08-02 21:02:27Z 64bit)\n"
READY = "FreeSWITCH (Version 1.10.12-release git a88d069 2024-08-02 21:02:27Z 64bit) is ready\n"
MODULES = frozenset({"mod_voicemail", "mod_pgsql", "mod_sndfile", "mod_dptools", "mod_dialplan_xml", "mod_event_socket"})
_SAMPLES = sorted((Path(__file__).parent / "recordings").glob("*.wav"))
_LONGEST_LINE = 1 << 20
_HEADER = 44  # bytes of a WAV header; libsndfile writes its sizes when the recording ends
_PIECES = 8

Command = Callable[[str], Awaitable[str]]


class StandInSwitch:
    """One switch with one voicemail profile, and one domain or several."""

    def __init__(
        self, database_url: str, recordings: Path, directory: Path, domain: str, *,
        password: str = PASSWORD, profile: str = "default", port: int = 0, db_password_override: bool = False,
        further: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """``database_url``: where voicemail_msgs is; ``recordings`` and ``directory``: folders that are there.

        ``further``: the folders of further domains, which need not be there.
        """
        self.recordings, self.directory, self.domain, self.password, self.port = recordings, directory, domain, password, port
        # What every reloadxml is answered if it is not empty, how many seconds it takes, and how many there were.
        self._answering = asyncio.Event()
        self._answering.set()
        self.refuse_reload = ""
        self.reload_takes = 0.0
        self.reloads = 0
        self._database_url, self._profile, self._override = database_url, profile, db_password_override
        self._events = EventSource()
        self._users = Directories({domain: directory, **further})
        self._tables = StandInTables(database_url)
        self._mailboxes = Mailboxes(self._tables, self._users, self._events, recordings, domain=domain, profile=profile)
        self._files = FileStore(self._mailboxes, self._events, recordings / ".storage", db_password_override=db_password_override)
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._started = time.monotonic()
        self._commands: dict[str, Command] = {
            "status": self._status, "version": self._version, "module_exists": self._module_exists,
            "global_getvar": self._global_getvar, "reloadxml": self._reloadxml, "user_exists": self._user_exists,
            "user_data": self._user_data, "find_user_xml": self._find_user_xml,
            "xml_flush_cache": self._xml_flush_cache, "xml_locate": self._xml_locate,
        }  # fmt: skip
        for name, work in {
            "vm_boxcount": voicemail.boxcount, "vm_prefs": voicemail.prefs, "vm_list": voicemail.messages,
            "vm_delete": voicemail.delete, "vm_read": voicemail.read, "vm_inject": voicemail.inject,
        }.items():  # fmt: skip
            self._commands[name] = self._bound(work)

    async def start(self) -> None:
        """Create the tables if they are not there, read the directory and listen: on the same port again after a stop."""
        await self._tables.open()
        self._users.load()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_LONGEST_LINE)
        self.port = self._server.sockets[0].getsockname()[1]
        self._started = time.monotonic()

    async def stop(self) -> None:
        """Stop listening and drop whoever is connected."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await self.drop_connections()
            await self._tables.close()

    @property
    def silent(self) -> bool:
        """Whether commands are accepted and not answered."""
        return not self._answering.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        (self._answering.clear if silent else self._answering.set)()

    async def drop_connections(self) -> None:
        """End every connection at once, in the middle of whatever it does."""
        sessions = dict(self._sessions)
        for task, writer in sessions.items():
            writer.transport.abort()
            task.cancel()
        if sessions:
            await asyncio.wait(sessions)

    async def leave_message(
        self, extension: str, recording: Path | None = None, *, caller_name: str = "Alice", caller_number: str = "0891234567",
        talking: float = 0.2, domain: str | None = None,
    ) -> LeftMessage:  # fmt: skip
        """Do what a call does: the recording grows for ``talking`` seconds, then come the event, the row and MWI.

        Raises ``LookupError`` if the directory has no such mailbox, or has it disabled: then a caller is turned away.
        """
        domain = domain or self.domain
        user = self._mailboxes.user(extension, domain)
        if user is None or user.params.get("vm-enabled", "true") == "false":
            raise LookupError(f"the switch takes no messages for {extension}")
        folder = self._mailboxes.folder(domain, extension)
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)  # as FreeSWITCH: nobody else may remove a file there
        path = folder / f"msg_{uuid4()}.wav"
        data = (recording or _SAMPLES[0]).read_bytes()
        await _record(path, data, talking)
        uuid = str(uuid4())  # the call's: it is not the one in the file's name
        if not self._mailboxes.keeps(extension, domain):
            path.unlink()
            return LeftMessage(extension, uuid, path, stored=False)
        caller = Caller(caller_name, caller_number)
        message = self._mailboxes.message(extension, domain, uuid, path, caller, seconds=audio_seconds(data))
        stored = await self._mailboxes.store(message)
        return LeftMessage(extension, uuid, path, stored)

    def phone_call(self, domain: str | None = None) -> PhoneCall:
        """Somebody calls to hear messages."""
        return PhoneCall(self._mailboxes, self._events, domain or self.domain, db_password_override=self._override)

    async def greeting(self, extension: str, *, domain: str | None = None) -> Path | None:
        """The recording that a caller hears before the beep: the greeting, else the recorded name, else None."""
        return await self._mailboxes.greeting(extension, domain or self.domain)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions[task] = writer
        try:
            await Session(reader, writer, self.password, self._api, self._events).run()
        except asyncio.CancelledError:
            pass  # dropped; the stream's own callback would call this an error
        finally:
            del self._sessions[task]

    async def _api(self, name: str, arguments: str) -> str:
        await self._answering.wait()
        try:
            if name.startswith("vm_fsdb_") and self._files.knows(name.removeprefix("vm_fsdb_")):
                return await self._files.call(name.removeprefix("vm_fsdb_"), arguments)
            command = self._commands.get(name)
            return f"-ERR {name} Command not found!\n" if command is None else await command(arguments)
        except (DatabaseFailed, OSError):
            return ""  # its statement failed: mod_voicemail goes on as if it had found nothing

    def _bound(self, work: Callable[[Mailboxes, str], Awaitable[str]]) -> Command:
        return lambda arguments: work(self._mailboxes, arguments)

    async def _status(self, _arguments: str) -> str:
        seconds = int(time.monotonic() - self._started)
        up = f"{seconds // 60} minutes, {seconds % 60} seconds, 0 milliseconds, 0 microseconds"
        return f"UP 0 years, 0 days, 0 hours, {up}\n{READY}0 session(s) since startup\n500 session(s) max\n"

    async def _version(self, _arguments: str) -> str:
        return VERSION

    async def _module_exists(self, arguments: str) -> str:
        return "true" if arguments in MODULES else "false"

    async def _global_getvar(self, arguments: str) -> str:
        known = {"domain": self.domain, "recordings_dir": str(self.recordings), "storage_dir": str(self.recordings / ".storage")}
        return known.get(arguments, "")

    async def _reloadxml(self, _arguments: str) -> str:
        self.reloads += 1
        await asyncio.sleep(self.reload_takes)
        if self.refuse_reload:
            return self.refuse_reload
        try:
            self._users.load()
        except DirectoryBroken as error:
            return f"+OK [{error}]\n"
        self._events.fire("RELOADXML", {}, source="switch_xml_open_root")
        return "+OK [Success]\n"

    async def _user_exists(self, arguments: str) -> str:
        key, user_id, domain = [*arguments.split(), "", "", ""][:3]
        return "true" if key == "id" and self._mailboxes.user(user_id, domain) else "false"

    async def _user_data(self, arguments: str) -> str:
        address, kind, name = [*arguments.split(), "", "", ""][:3]
        user_id, _, domain = address.partition("@")
        user = self._mailboxes.user(user_id, domain)
        return "" if user is None else _datum(user, kind, name)

    async def _find_user_xml(self, arguments: str) -> str:
        key, user_id, domain = [*arguments.split(), "", "", ""][:3]
        user = self._mailboxes.user(user_id, domain) if key == "id" else None
        return "-ERR can't find user\n" if user is None else user_xml(user)

    async def _xml_flush_cache(self, _arguments: str) -> str:
        return "+OK cleared 0 entries\n"

    async def _xml_locate(self, arguments: str) -> str:
        if arguments.split() != ["configuration", "configuration", "name", "voicemail.conf"]:
            return "-ERR bad args\n"
        params = {
            "odbc-dsn": _switch_dsn(self._database_url),
            "storage-dir": str(self.recordings),
            "db-password-override": str(self._override).lower(),
            "allow-empty-password-auth": "false",
        }
        lines = "".join(f"<param name={quoteattr(name)} value={quoteattr(value)}/>\n" for name, value in params.items())
        profile = f"<profile name={quoteattr(self._profile)}>\n{lines}</profile>"
        return f'<configuration name="voicemail.conf">\n<profiles>\n{profile}\n</profiles>\n</configuration>\n'


def _datum(user: DirectoryEntry, kind: str, name: str) -> str:
    found = {"param": user.params, "attr": user.attributes, "var": user.variables}.get(kind, {})
    return found.get(name, "")


def _switch_dsn(url: str) -> str:
    """A database URL as mod_pgsql takes it."""
    parts = urlsplit(url)
    password = f" password={unquote(parts.password)}" if parts.password else ""
    name, user = parts.path.strip("/"), unquote(parts.username or "")
    return f"pgsql://host={parts.hostname} port={parts.port or 5432} dbname={name} user={user}{password}"


async def _record(path: Path, data: bytes, talking: float) -> None:
    """Write a recording as a call does: the header's sizes are right only once it ends."""
    audio = data[_HEADER:]
    step = max(1, len(audio) // _PIECES)
    with path.open("wb") as file:
        file.write(data[:4] + bytes(4) + data[8:40] + bytes(4))
        for start in range(0, len(audio), step):
            file.write(audio[start : start + step])
            file.flush()
            await asyncio.sleep(talking / _PIECES)
        file.seek(0)
        file.write(data[:_HEADER])
