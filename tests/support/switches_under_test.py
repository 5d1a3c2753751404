"""The two switches that one suite runs against, behind one small face: the stand-in, and a real FreeSWITCH."""

import asyncio
import shutil
import struct
import wave
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import pi, sin
from pathlib import Path
from typing import Any, Protocol
from xml.sax.saxutils import quoteattr

import asyncpg

from tests.support.plain_client import PlainClient

DOMAIN = "lab.local"
PIN = "4321"
MAIL_TO = "tech@example.com"
EVENTS = "event plain MESSAGE_WAITING RELOADXML BACKGROUND_JOB CUSTOM vm::maintenance"


class Engine(Protocol):
    """What the stand-in and the real switch have in common."""

    port: int
    recordings: Path
    directory: Path


def write_tone(path: Path, seconds: float) -> Path:
    """A WAV of so many seconds that no silence detector mistakes for silence."""
    samples = (int(9000 * sin(2 * pi * 440 * n / 8000)) for n in range(int(8000 * seconds)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path


class SwitchUnderTest:
    """One of the switches, its tables and its folders, with a connection of its own; made fresh for each test by ``reset``."""

    def __init__(self, kind: str, engine: Any, dsn: str, folder: Path, password: str) -> None:
        self.kind, self.engine, self.dsn, self.password = kind, engine, dsn, password
        self.port: int = engine.port
        self.recordings: Path = engine.recordings
        self.directory: Path = engine.directory
        self.audio = folder / "audio"
        self.database: asyncpg.Connection
        self.client: PlainClient
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Connect to the switch and to its database."""
        self.database = await asyncpg.connect(self.dsn)
        self._stack.push_async_callback(self.database.close)
        self.client = await self.connect(EVENTS)

    async def close(self) -> None:
        """Close every connection."""
        await self._stack.aclose()

    async def connect(self, *commands: str) -> PlainClient:
        """Another connection, logged in, on which these commands were sent; closed after the test."""
        client = await PlainClient.connect(self.port, self.password)
        self._stack.push_async_callback(client.close)
        for command in commands:
            assert (await client.command(command)).text.startswith("+OK"), command
        return client

    async def reset(self) -> None:
        """No messages, no preferences, no files, and the users 101 and 102."""
        await self.database.execute("DELETE FROM voicemail_msgs; DELETE FROM voicemail_prefs")
        for folder in (self.recordings, self.directory, self.audio):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.write_user("101")
        self.write_user("102")
        await self.reload()
        await self.api("xml_flush_cache")
        self.client.events.clear()

    def write_user(self, extension: str, pin: str = PIN, mail_to: str = MAIL_TO, **params: str) -> None:
        """A user's file, as the service writes it; the switch does not know it before ``reload``."""
        everything = {"vm-password": pin, "vm-mailto": mail_to, "vm-enabled": "true", "vm-keep-local-after-email": "true"}
        everything |= {name.replace("_", "-"): value for name, value in params.items()}
        lines = [f'<param name="{name}" value={quoteattr(value)}/>' for name, value in everything.items()]
        self.write_file(f"{extension}.xml", f'<user id="{extension}">', "<params>", *lines, "</params>", "</user>")

    def write_file(self, name: str, *lines: str) -> None:
        """A file of these lines in the folder that the switch includes."""
        (self.directory / name).write_text("\n".join(["<include>", *lines, "</include>"]) + "\n")

    async def reload(self) -> None:
        """Have the switch read its directory again."""
        assert await self.api("reloadxml") == "+OK [Success]\n"

    async def api(self, command: str) -> str:
        """The body of the reply to ``api …``, as it came."""
        return await self.client.api(command)

    async def inject(self, *extensions: str, name: str = "Alice", number: str = "0891234567", seconds: float = 1) -> str:
        """Put a message into mailboxes by vm_inject; the uuid of the last."""
        path = self.audio / f"tone-{seconds}.wav"
        if not path.exists():
            write_tone(path, seconds)
        for extension in extensions:
            assert await self.api(f"vm_inject {extension}@{DOMAIN} {path} {number} '{name}'") == "+OK\n"
        uuid: str = (await self.rows(extensions[-1]))[-1]["uuid"]
        return uuid

    async def insert(self, extension: str, uuid: str, **fields: Any) -> Path:
        """Write the row of a message and its file, as if it had been left some time ago; the file's path."""
        folder = self.recordings / DOMAIN / extension
        folder.mkdir(parents=True, exist_ok=True)
        row = {
            "created_epoch": 1795460563, "read_epoch": 0, "username": extension, "domain": DOMAIN, "uuid": uuid,
            "cid_name": "Alice", "cid_number": "0891234567", "in_folder": "inbox", "file_path": str(folder / f"msg_{uuid}.wav"),
            "message_len": 1, "flags": "", "read_flags": "B_NORMAL", "forwarded_by": "",
        } | fields  # fmt: skip
        names = ", ".join(row)
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.database.execute(f"INSERT INTO voicemail_msgs ({names}) VALUES ({places})", *row.values())
        return write_tone(Path(str(row["file_path"])), 1)

    async def leave(self, extension: str, *, name: str = "Alice", number: str = "0891234567", seconds: int = 1) -> None:
        """A caller leaves a message; when this returns the call may still be going on."""
        if self.kind == "sandbox":
            path = write_tone(self.audio / "call.wav", seconds)
            await self.engine.leave_message(extension, path, caller_name=name, caller_number=number)
            return
        # The caller plays a file from the start: the first second of it goes by under mod_voicemail's beep.
        path = write_tone(self.audio / "call.wav", max(seconds, 1) + 1.3)
        variables = (
            f"skip_greeting=true,skip_instructions=true,effective_caller_id_name='{name}',effective_caller_id_number={number}"
        )
        reply = await self.api(
            f"originate {{{variables}}}loopback/app=playback:{path} '&voicemail(default {DOMAIN} {extension})'"
        )
        assert reply.startswith("+OK ")

    async def rows(self, extension: str | None = None) -> Sequence[asyncpg.Record]:
        """The rows of a mailbox, or all of them, in the order they were written."""
        rows: Sequence[asyncpg.Record] = await self.database.fetch(
            "SELECT * FROM voicemail_msgs WHERE $1::text IS NULL OR username = $1 ORDER BY ctid", extension
        )
        return rows

    async def until_rows(self, number: int, extension: str | None = None) -> Sequence[asyncpg.Record]:
        """Those rows once there are so many of them."""
        async with asyncio.timeout(10):
            while len(rows := await self.rows(extension)) != number:
                await asyncio.sleep(0.02)
        return rows

    async def quiet(self) -> list[str]:
        """The names of the events so far, once every event that was on its way is here."""
        marker = f"quiet-{len(self.client.events)}"
        reply = await self.client.command(f"sendevent MESSAGE_WAITING\nMWI-Message-Account: {marker}")
        assert reply.text.startswith("+OK")
        await self.client.event("MESSAGE_WAITING", MWI_Message_Account=marker)
        self.client.events[:] = [event for event in self.client.events if event.headers.get("MWI-Message-Account") != marker]
        return [event.name for event in self.client.events]
