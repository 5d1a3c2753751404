"""Kills a move or a copy before each of its steps in turn, lets another process go on, and prints a JSON line about each.

Run as ``python killed_transfer.py DSN RECORDINGS move|copy links|copies``, with the checkout and its tests in PYTHONPATH. A step is a
statement to the database or a change of the disk.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import open_pool
from app.jobs.retries import Retries
from app.messages import removal_store, transfer_store
from app.messages.model import Message
from app.messages.sending import move_reason
from app.messages.transfer_store import Kind
from app.messages.transfers import Transfers
from tests.support.killed_delivery import apart
from tests.support.killed_trash import CONTENT, TrashProcess, die_before
from tests.support.mail_process import row_of
from tests.support.switch_rows import DOMAIN, insert, switch_row
from tests.support.switches import switch_with

TARGET = MailboxAddress(Extension("102"), Domain(DOMAIN))
UNSETTLED = """
SELECT (SELECT count(*) FROM voicemail.removal WHERE state NOT IN ('deleted', 'kept'))
     + (SELECT count(*) FROM voicemail.transfer WHERE state NOT IN ('done', 'failed'))
"""


class TransferProcess(TrashProcess):
    """One process that moves and copies."""

    def __init__(self, dsn: str, pool: Any, recordings: Path, *, links: bool) -> None:
        super().__init__(dsn, pool, recordings, links=links)
        self.removal.register(move_reason())
        self.transfers = Transfers(
            pool=pool, switch=switch_with(None, pool), jobs=self.jobs, claims=self.claims, storage=self.storage,
            registry=self.registry, removal=self.removal, phones=self.phones, links=links,
            retries=Retries(first=0.05, longest=0.1, lease=0.05),
        )  # fmt: skip

    async def send(self, row: dict[str, Any], kind: Kind) -> None:
        """As the API does."""
        message = Message(UUID(row["uuid"]), row_of(row))
        planned = await self.transfers.plan(message, kind, TARGET)
        async with self.pool.acquire() as connection, connection.transaction():
            await self.transfers.ask(connection, [planned])
        await self.transfers.finish(planned)

    async def go_on(self) -> None:
        """As jobs and the sweep do until nothing is left."""
        async with asyncio.timeout(10):
            while True:
                async with self.pool.acquire() as connection:
                    moving = await transfer_store.due(connection, 100)
                    due = await removal_store.due(connection, 100)
                    left = await connection.fetchval(UNSETTLED)
                for found, _ in moving:
                    await self.transfers.transfer(str(found))
                for found, _ in due:
                    await self.removal.remove(str(found))
                if not left:
                    return
                await asyncio.sleep(0.02)


async def at_work(arguments: list[str], work: Callable[[TransferProcess], Awaitable[Any]]) -> Any:
    """Work in a process of its own, as far as the outside sees."""
    dsn, recordings, _, how = arguments
    pool = await open_pool(dsn, application_name="test")
    process = TransferProcess(dsn, pool, Path(recordings), links=how == "links")
    found = await work(process)
    await process.claims.close()
    await pool.close()
    return found


def main(arguments: list[str]) -> None:
    """Kill before the first step, the second and so on, until one survives."""
    recordings, kind = Path(arguments[1]), Kind(arguments[2])

    async def look(process: TransferProcess) -> dict[str, Any]:
        rows = await process.pool.fetch("SELECT username, file_path, cid_name FROM voicemail_msgs")
        whole = [
            row["username"] for row in rows if Path(row["file_path"]).exists() and Path(row["file_path"]).read_bytes() == CONTENT
        ]
        asked = await process.pool.fetchval("SELECT count(*) FROM voicemail.transfer")
        files = sorted(path.parent.name for path in recordings.rglob("*") if path.is_file())
        return {"rows": sorted(row["username"] for row in rows), "whole": sorted(whole), "asked": asked, "files": files}

    for number in range(1, 100):
        message_id = uuid4()
        path = recordings / DOMAIN / "101" / f"msg_{message_id}.wav"
        row = switch_row(uuid=str(message_id), file_path=str(path), cid_name="Zoë")

        async def doomed(process: TransferProcess) -> None:
            await process.registry.begin()
            await process.registry.finish_baseline()
            path.parent.mkdir(parents=True, exist_ok=True)  # noqa: B023
            path.write_bytes(CONTENT)  # noqa: B023
            await insert(process.pool, row)  # noqa: B023
            await process.registry.record([row_of(row)])  # noqa: B023
            die_before(number)  # noqa: B023
            await process.send(row, kind)  # noqa: B023

        killed, _ = apart(lambda: at_work(arguments, doomed))

        async def after(process: TransferProcess) -> dict[str, Any]:
            found = await look(process)
            await process.go_on()
            made = await look(process)
            for table in ("voicemail.removal", "voicemail.transfer", "voicemail_msgs"):
                await process.pool.execute(f"DELETE FROM {table}")
            for left in recordings.rglob("msg_*"):
                left.unlink()
            return {"found": found, "made": made}

        _, text = apart(lambda: _print(at_work(arguments, after)))
        print(json.dumps({"step": number, "killed": killed, **json.loads(text.splitlines()[-1])}), flush=True)
        if not killed:
            return


async def _print(work: Awaitable[Any]) -> None:
    print("\n" + json.dumps(await work))


if __name__ == "__main__":
    main(sys.argv[1:])
