"""Kills an intake before each of its statements in turn, lets another one go on, and prints a JSON line about each.

Run as ``python killed_intake.py DSN first|later``, with the checkout and its tests in PYTHONPATH: it is killed at its first start
among old messages, or later when new ones came.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from app.database.pool import Connection, Pool, open_pool
from app.messages.intake import Intake
from app.messages.model import Message
from app.messages.registry import Registry
from app.recordings.index import RecordingIndex
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from tests.support.switch_rows import ROOT, insert_all, switch_row

STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")


async def announce(connection: Connection, messages: Sequence[Message]) -> None:
    """What notifications do."""
    await connection.executemany("INSERT INTO announced VALUES ($1, $2)", [(m.id, m.file_path) for m in messages])


def intake(pool: Pool) -> Intake:
    """The intake of a process that starts."""
    storage = RecordingStorage(RecordingPaths(Path("/nonexistent"), ROOT))
    return Intake(
        pool, pool, Registry(pool, pool, storage, announce, max_age=86400), RecordingIndex(pool, storage), storage.paths
    )


def die_before(number: int) -> None:
    """Kill this process before its next ``number``-th statement."""
    left = number

    def dying(statement: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return await statement(*args, **kwargs)

        return call

    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, dying(getattr(asyncpg.Connection, name)))


async def prepare(dsn: str, when: str) -> list[str]:
    """Old messages, of which two share a uuid; ``later`` new ones too. Returns what is news."""
    pool = await open_pool(dsn, application_name="test")
    await pool.execute(
        "DELETE FROM voicemail_msgs; DELETE FROM announced; DELETE FROM voicemail.message; DELETE FROM voicemail.installation; "
        "DELETE FROM voicemail.baseline"
    )
    now, shared = int(time.time()), str(uuid4())
    await insert_all(pool, [switch_row(created_epoch=now - 100 + 5000 * number, uuid=shared) for number in range(3)])
    news: list[str] = []
    if when == "later":
        await intake(pool).step()
        rows = [switch_row(created_epoch=now, uuid=shared) for _ in range(2)] + [switch_row()]
        await insert_all(pool, rows)
        news = [row["file_path"] for row in rows]
    await pool.close()
    return news


async def doomed(dsn: str, number: int) -> None:
    """The look of a process that ends before a statement."""
    pool = await open_pool(dsn, application_name="test")
    die_before(number)
    await intake(pool).step()


async def arrive(dsn: str) -> list[str]:
    """A row dated back, left while no process runs: it is news once the first start has noted its snapshot."""
    pool = await open_pool(dsn, application_name="test")
    row = switch_row(created_epoch=int(time.time()) - 3 * 3600)
    await insert_all(pool, [row])
    began = await pool.fetchval("SELECT EXISTS (SELECT FROM voicemail.installation)")
    await pool.close()
    return [row["file_path"]] if began else []


async def go_on(dsn: str) -> dict[str, Any]:
    """Two more looks by the next process, and what was announced and recorded then."""
    pool = await open_pool(dsn, application_name="test")
    following = intake(pool)
    await following.step()
    following.wake(full=True)
    await following.step()
    announced = [record[0] for record in await pool.fetch("SELECT file_path FROM announced")]
    ids = [str(record[0]) for record in await pool.fetch("SELECT id FROM voicemail.message")]
    await pool.close()
    return {"announced": announced, "ids": len(set(ids))}


def main(dsn: str, when: str) -> None:
    """Kill before the first statement, the second and so on, until one survives."""
    for number in range(1, 100):
        news = asyncio.run(prepare(dsn, when))
        child = os.fork()
        if child == 0:
            asyncio.run(doomed(dsn, number))
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        news += asyncio.run(arrive(dsn))
        print(json.dumps({"statement": number, "killed": killed, "news": news, **asyncio.run(go_on(dsn))}), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
