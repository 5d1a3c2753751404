"""Kills an upload of a greeting, a deletion, or a message being left before each of its steps in turn, and prints what is left.

Run as ``python killed_uploads.py DSN RECORDINGS``, with the checkout and its tests in PYTHONPATH. A step is a change of a
database or of the disk. Each line of JSON is one death.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg

from app.access.audit.readings import Readings
from app.access.grant import Grant
from app.addressing import Domain, Extension, MailboxKey
from app.database.pool import Connection, Pool, open_pool
from app.errors import SwitchUnavailable
from app.greetings.model import Slot
from app.greetings.service import GreetingService
from app.messages.leaving import Caller, Leaving
from app.messages.model import Message
from app.messages.registry import Registry
from app.messages.rescue import Rescue
from app.messages.service import Messages
from app.recordings.conversion import PlainAudio
from app.recordings.index import RecordingIndex
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.switch.mwi import MessageWaiting
from app.switch.tables.greetings import GreetingTable
from tests.support.tones import tone

DOMAIN, EXTENSION = Domain("lab.local"), Extension("101")
KEY = MailboxKey(None, EXTENSION)
GRANT = Grant.everything("drill", DOMAIN)
OLD, NEW = tone(700, 0.2), tone(1500, 0.2)
STATEMENTS = ("execute", "executemany")  # those that change something
CHANGES = ("mkdir", "write", "fsync", "rename", "unlink")
Work = Callable[["Process"], Awaitable[object]]


class Plain:
    """A conversion of what is plain already."""

    async def convert(self, data: bytes, *, longest: int) -> PlainAudio:
        """The same."""
        return PlainAudio(data, (len(data) - 44) / 16000)


class NoSwitch:
    """A switch that is away."""

    async def command(self, *_: object, **__: object) -> Any:
        """Nothing answers."""
        raise SwitchUnavailable("away")


class Process:
    """The parts of one process of the service."""

    def __init__(self, pool: Pool, recordings: Path) -> None:
        storage = RecordingStorage(RecordingPaths(recordings, str(recordings)))
        socket = NoSwitch()
        switch: Any = SimpleNamespace(pool=pool, socket=socket, mwi=MessageWaiting(socket))
        index, plain, readings = RecordingIndex(pool, storage), Plain(), Readings(pool)
        registry = Registry(pool, pool, storage, announce, max_age=86400)
        messages = Messages(pool, pool, registry, storage)  # type: ignore[arg-type]
        self.pool = pool
        self.greetings = GreetingService(
            pool=pool, table=GreetingTable(pool), storage=storage, index=index, conversion=plain, readings=readings
        )  # type: ignore[arg-type]
        self.leaving = Leaving(
            pool=pool, switch=switch, storage=storage, index=index, conversion=plain, messages=messages, hint=lambda _: None
        )  # type: ignore[arg-type]
        self.rescue = Rescue(pool, switch, storage, lambda _: None, settle=0.01)


async def announce(_connection: Connection, _messages: Sequence[Message]) -> None:
    """Nobody is mailed here."""


async def upload(process: Process) -> None:
    """Replace the greeting that is active."""
    await process.greetings.put(GRANT, KEY, Slot("1"), NEW, activate=True, asked=None)


async def other_slot(process: Process) -> None:
    """Fill another slot and have it played."""
    await process.greetings.put(GRANT, KEY, Slot("2"), NEW, activate=True, asked=None)


async def delete(process: Process) -> None:
    """Delete the greeting that is active."""
    await process.greetings.delete(GRANT, KEY, Slot("1"), asked=None)


async def leave(process: Process) -> None:
    """Leave a message."""
    await process.leaving.leave(GRANT, KEY, NEW, Caller("Alice", "0891234567"), asked=None)


def die_before(number: int) -> None:
    """Kill this process before its next ``number``-th step."""
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(original: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            step()
            return await original(*args, **kwargs)

        return call

    def change(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            step()
            return original(*args, **kwargs)

        return call

    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, statement(getattr(asyncpg.Connection, name)))
    for name in CHANGES:
        setattr(os, name, change(getattr(os, name)))


async def doomed(dsn: str, recordings: Path, work: Work, number: int, answered: int) -> None:
    """One call in a process that ends before a step; ``answered`` is written to if the call returned."""
    pool = await open_pool(dsn, size=3, application_name="test")
    process = Process(pool, recordings)
    write = os.write
    die_before(number)
    await work(process)
    write(answered, b".")


async def begin(pool: Pool, recordings: Path) -> None:
    """A mailbox whose greeting is OLD, and no message."""
    await pool.execute("DELETE FROM voicemail_msgs; DELETE FROM voicemail.heard_message; DELETE FROM voicemail.message")
    process = Process(pool, recordings)
    await process.greetings.put(GRANT, KEY, Slot("1"), OLD, activate=True, asked=None)


async def look(pool: Pool, recordings: Path) -> dict[str, Any]:
    """What is played, and how many messages there are once the next process has looked after what was begun."""
    path = await pool.fetchval("SELECT greeting_path FROM voicemail_prefs WHERE username = $1", EXTENSION)
    played = None if path is None else Path(path).read_bytes() if Path(path).is_file() else b"nothing"
    before = await pool.fetchval("SELECT count(*) FROM voicemail_msgs")
    for _ in range(2):
        await pool.execute("UPDATE voicemail.heard_message SET due_at = now()")
        await Process(pool, recordings).rescue.step()
    rows = await pool.fetch("SELECT file_path, cid_name, message_len FROM voicemail_msgs")
    files = sorted(str(path) for path in (recordings / DOMAIN / EXTENSION).glob("msg_*"))
    for name in files:
        Path(name).unlink()
    return {
        "played": {None: "default", OLD: "old", NEW: "new"}.get(played, "broken"),
        "before": before,
        "rows": len(rows),
        "callers": [row["cid_name"] for row in rows],
        "orphans": len(set(files) - {row["file_path"] for row in rows}),
        "missing": len({row["file_path"] for row in rows} - set(files)),
    }


def main(arguments: list[str]) -> None:
    """Kill each call before each of its steps, until it returns."""
    dsn, recordings = arguments[0], Path(arguments[1])
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(dsn, size=3, application_name="test"))
        for work in (upload, other_slot, delete, leave):
            for number in range(1, 200):
                runner.run(begin(pool, recordings))
                status, answered = die(dsn, recordings, work, number)
                found = runner.run(look(pool, recordings))
                death = {"work": work.__name__, "number": number, "status": status, "answered": answered}
                print(json.dumps(death | found), flush=True)
                if status == 0:
                    break
        runner.run(pool.close())


def die(dsn: str, recordings: Path, work: Work, number: int) -> tuple[int, bool]:
    """Fork a process that ends before a step: its exit status, and whether its call had returned. No loop may be running."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(doomed(dsn, recordings, work, number, writing))
        os._exit(0)
    os.close(writing)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answered = bool(os.read(reading, 1))
    os.close(reading)
    return status, answered


if __name__ == "__main__":
    main(sys.argv[1:])
