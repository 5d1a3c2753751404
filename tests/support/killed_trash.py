"""Kills a deletion, or a restoration, before each of its steps in turn, lets another process go on, and prints a JSON line about each.

Run as ``python killed_trash.py DSN RECORDINGS delete|bulk|restore links|copies``, with the checkout and its tests in PYTHONPATH. A step
is a statement to the database or a change of the disk.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.addressing import Domain
from app.database.pool import open_pool
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.jobs.retries import Retries
from app.messages import removal_store
from app.messages.actions import reasons
from app.messages.model import Message
from app.messages.phone_updates import PhoneUpdates
from app.messages.reasons import Pace
from app.messages.registry import Registry
from app.messages.removal import Removal
from app.messages.trash import TRASH, Trash, TrashAside
from app.messages.trash_many import ManyToTrash
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.recordings.trash import FOLDER, TrashFolder
from app.switch.mwi import MessageWaiting
from tests.support.killed_delivery import STATEMENTS, apart
from tests.support.mail_process import row_of
from tests.support.switch_rows import DOMAIN, insert, switch_row
from tests.support.switches import switch_with

CONTENT = b"RIFF a voice WAVE"
CHANGES = ("link", "rename", "unlink", "mkdir", "fsync")


def die_before(number: int) -> None:
    """Kill this process before its next ``number``-th step."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(step: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return await step(*args, **kwargs)

        return call

    def dying_change(step: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return step(*args, **kwargs)

        return call

    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, dying(getattr(asyncpg.Connection, name)))
    for name in CHANGES:
        setattr(os, name, dying_change(getattr(os, name)))


class TrashProcess:
    """One process that deletes and restores."""

    def __init__(self, dsn: str, pool: Any, recordings: Path, *, links: bool) -> None:
        self.pool = pool
        self.storage = RecordingStorage(RecordingPaths(recordings, str(recordings)), refuse_hard_links=not links)
        self.jobs, self.claims = Jobs(dsn), Claims(dsn)
        self.phones = PhoneUpdates(pool, MessageWaiting(None))  # type: ignore[arg-type]
        switch = switch_with(None, pool)
        self.removal = Removal(
            pool=pool, switch=switch, jobs=self.jobs, claims=self.claims, storage=self.storage, phones=self.phones,
            retries=Retries(first=0.05, longest=0.1, lease=0.05), pace=Pace(0.0, 0.0, 0.0),
        )  # fmt: skip
        self.folder = TrashFolder(self.storage, links=links)
        for reason in reasons(TrashAside(pool, pool, self.storage, self.folder)):
            self.removal.register(reason)
        self.trash = Trash(
            pool=pool, readers=pool, switch=switch, storage=self.storage, folder=self.folder, removal=self.removal,
            phones=self.phones, days=30,
        )  # fmt: skip
        self.registry = Registry(pool, pool, self.storage, _nobody, max_age=86400)

    async def delete(self, message_id: UUID) -> None:
        """As the API does."""
        async with self.pool.acquire() as connection, connection.transaction():
            removal_id = await self.removal.ask_now(connection, message_id, TRASH)
        await self.removal.delete_now(message_id, removal_id, TRASH)

    async def delete_many(self, row: dict[str, Any]) -> None:
        """As the API does for many messages."""
        many = ManyToTrash(
            pool=self.pool, switch=switch_with(None, self.pool), jobs=self.jobs, claims=self.claims, storage=self.storage,
            folder=self.folder, removal=self.removal, phones=self.phones, lease=0.05, files_after=0.0,
        )  # fmt: skip
        grant = Grant.everything("test", Domain(DOMAIN))
        message = Message(UUID(row["uuid"]), row_of(row))
        await many.delete([message], [AuditEntry.of(grant, Action.MESSAGE_DELETE, target=message.id)])

    async def go_on(self) -> None:
        """As jobs and the sweep do until nothing is left."""
        async with asyncio.timeout(10):
            while True:
                await self.trash.go_on()
                async with self.pool.acquire() as connection:
                    due = await removal_store.due(connection, 100)
                    left = await connection.fetchval(
                        "SELECT count(*) FROM voicemail.removal WHERE state NOT IN ('deleted', 'kept')"
                    )
                for found, _ in due:
                    await self.removal.remove(str(found))
                if not left:
                    return
                await asyncio.sleep(0.02)


def row_at(path: Path, message_id: UUID) -> dict[str, Any]:
    """The message's row."""
    return switch_row(uuid=str(message_id), file_path=str(path), cid_name="Zoë")


async def _nobody(_connection: Any, _messages: Any) -> None:
    """Nobody is mailed."""


async def at_work(arguments: list[str], work: Callable[[TrashProcess], Awaitable[Any]]) -> Any:
    """Work in a process of its own, as far as the outside sees."""
    dsn, recordings, _, kind = arguments
    pool = await open_pool(dsn, application_name="test")
    process = TrashProcess(dsn, pool, Path(recordings), links=kind == "links")
    found = await work(process)
    await process.claims.close()
    await pool.close()
    return found


def main(arguments: list[str]) -> None:
    """Kill before the first step, the second and so on, until one survives."""
    recordings, deed = Path(arguments[1]), arguments[2]

    async def leave(process: TrashProcess, path: Path, message_id: UUID) -> None:
        await process.registry.begin()
        await process.registry.finish_baseline()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        row = row_at(path, message_id)
        await insert(process.pool, row)
        await process.registry.record([row_of(row)])
        if deed == "restore":
            await process.delete(message_id)

    async def look(process: TrashProcess, path: str, message_id: UUID) -> dict[str, Any]:
        row = await process.pool.fetchrow("SELECT cid_name, file_path FROM voicemail_msgs WHERE file_path = $1", path)
        trashed = await process.pool.fetchrow("SELECT file FROM voicemail.trash WHERE message_id = $1", message_id)
        kept = recordings / FOLDER / trashed["file"] if trashed and trashed["file"] else None
        return {
            "mailbox": bool(row) and Path(path).exists() and Path(path).read_bytes() == CONTENT,
            # While it is put back, its recording may be at its place already.
            "trash": trashed is not None and any(one and one.exists() and one.read_bytes() == CONTENT for one in (kept, Path(path))),
            "row": row is not None, "file": Path(path).exists(), "entry": trashed is not None,
            "strays": len(list((recordings / FOLDER).glob("*"))) if (recordings / FOLDER).exists() else 0,
        }  # fmt: skip

    for number in range(1, 100):
        message_id = uuid4()
        path = str(recordings / DOMAIN / "101" / f"msg_{message_id}.wav")

        async def doomed(process: TrashProcess) -> None:
            await leave(process, Path(path), message_id)  # noqa: B023
            die_before(number)  # noqa: B023
            if deed == "bulk":
                await process.delete_many(row_at(Path(path), message_id))  # noqa: B023
            else:
                await (process.delete(message_id) if deed == "delete" else process.trash.restore(message_id, []))  # noqa: B023

        killed, _ = apart(lambda: at_work(arguments, doomed))

        async def after(process: TrashProcess) -> dict[str, Any]:
            found = await look(process, path, message_id)  # noqa: B023
            await process.go_on()
            made = await look(process, path, message_id)  # noqa: B023
            await process.pool.execute("DELETE FROM voicemail.trash")
            await process.pool.execute("DELETE FROM voicemail_msgs")
            for stray in (recordings / FOLDER).glob("*"):
                stray.unlink()
            return {"found": found, "made": made}

        _, text = apart(lambda: _print(at_work(arguments, after)))
        print(json.dumps({"step": number, "killed": killed, **json.loads(text.splitlines()[-1])}), flush=True)
        if not killed:
            return


async def _print(work: Awaitable[Any]) -> None:
    print("\n" + json.dumps(await work))


if __name__ == "__main__":
    main(sys.argv[1:])
