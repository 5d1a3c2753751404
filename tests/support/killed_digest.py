"""Kills the sending of a digest before every other of its steps, lets another process go on, and prints a JSON line about each.

Run as ``python killed_digest.py DSN RECORDINGS SMTP_PORT``, with the checkout and its tests in PYTHONPATH. A step is a statement to
the database or a command to the mail server.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.database.pool import open_pool
from app.notifications.notices import store as notices
from tests.support.killed_delivery import apart, die_before
from tests.support.mail_process import MailProcess, row_of
from tests.support.switch_rows import DOMAIN, insert, switch_row

STRIDE = 2  # steps from one kill to the next: a delivery's own drill takes every one


class Site:
    """What the test has running."""

    def __init__(self, arguments: list[str]) -> None:
        self.dsn, recordings, self.smtp_port = arguments
        self.recordings = Path(recordings)

    async def process(self, work: Callable[[MailProcess], Awaitable[Any]]) -> Any:
        """Work in a process of its own, as far as the outside sees."""
        pool = await open_pool(self.dsn, application_name="test")
        mails = MailProcess(self.dsn, pool, self.recordings, int(self.smtp_port), None, per_hour=1, hour=0.2)  # type: ignore[arg-type]
        found = await work(mails)
        await mails.close()
        await pool.close()
        return found

    async def doomed(self, mails: MailProcess, extension: str, number: int) -> None:
        """Three messages at once, of which two are digested; the process ends before a step of the digest."""
        await mails.begin()
        await mails.mailbox(extension, mail_to=(f"{extension}@example.com",), local_after_email=True)
        folder = self.recordings / DOMAIN / extension
        folder.mkdir(parents=True, exist_ok=True)
        rows = [switch_row(username=extension, file_path=str(folder / f"msg_{uuid4()}.wav"), cid_name=f"C{n}") for n in range(3)]
        for row in rows:
            Path(row["file_path"]).write_bytes(b"RIFFdata")
        await insert(mails.pool, *rows)
        await mails.registry.record([row_of(row) for row in rows])
        digest = await mails.pool.fetchval("SELECT id FROM voicemail.digest WHERE extension = $1", extension)
        await asyncio.sleep(0.25)
        die_before(number)
        await mails.notices.close_digest(str(digest))
        async with mails.pool.acquire() as connection:
            for notice, _ in await notices.due(connection, 10):
                await mails.notices.deliver(str(notice))

    async def go_on(self, mails: MailProcess, extension: str) -> dict[str, Any]:
        """What the next process makes of it."""
        await mails.work()
        found = await mails.pool.fetchrow(
            "SELECT d.mail_message_id AS mail, n.state, (SELECT count(*) FROM voicemail.notice WHERE digest_id = d.id) AS notices,"
            " n.attempts FROM voicemail.digest d LEFT JOIN voicemail.notice n ON n.digest_id = d.id WHERE d.extension = $1",
            extension,
        )
        files = len(list((self.recordings / DOMAIN / extension).iterdir()))
        left = await mails.pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username = $1", extension)
        return {**dict(found), "files": files, "rows": left}


def main(arguments: list[str]) -> None:
    """Kill before every other step, until one survives."""
    site = Site(arguments)
    for number in range(1, 100, STRIDE):
        extension = str(5000 + number)

        async def doomed() -> None:
            await site.process(lambda mails: site.doomed(mails, extension, number))  # noqa: B023

        async def go_on() -> None:
            print("\n" + json.dumps(await site.process(lambda mails: site.go_on(mails, extension))))  # noqa: B023

        killed, _ = apart(doomed)
        _, text = apart(go_on)
        print(json.dumps({"step": number, "killed": killed, **json.loads(text.splitlines()[-1])}), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
