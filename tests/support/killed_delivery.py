"""Kills a delivery before each of its steps in turn, lets another process go on, and prints a JSON line about each.

Run as ``python killed_delivery.py DSN RECORDINGS SMTP_PORT ESL_PORT ESL_PASSWORD alone|shared``, with the checkout and its tests in
PYTHONPATH. A step is a statement to the database, a command to the mail server or the switch, or the removal of a file. ``shared``:
another message has the same uuid, so that no command of the switch deletes this one alone.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosmtplib
import asyncpg

from app.database.pool import open_pool
from app.notifications.mail.conversation import Conversation
from app.switch.esl.event_socket import EventSocket
from tests.support.mail_process import MailProcess
from tests.support.switch_rows import insert, switch_row

STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")


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

    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, dying(getattr(asyncpg.Connection, name)))
    aiosmtplib.SMTP.execute_command = dying(aiosmtplib.SMTP.execute_command)  # type: ignore[method-assign]
    for name in ("_upload", "_answer"):  # before the content goes, and when it has gone and nothing was heard yet
        setattr(Conversation, name, dying(getattr(Conversation, name)))
    EventSocket.command = dying(EventSocket.command)  # type: ignore[method-assign]
    unlink = os.unlink

    def dying_unlink(*args: Any, **kwargs: Any) -> None:
        count()
        unlink(*args, **kwargs)

    os.unlink = dying_unlink  # type: ignore[assignment]


class Site:
    """What the test has running."""

    def __init__(self, arguments: list[str]) -> None:
        self.dsn, recordings, self.smtp_port, self.esl_port, self.esl_password, self.kind = arguments
        self.recordings = Path(recordings)

    async def at_a_desk(self, work: Callable[[MailProcess], Awaitable[Any]]) -> Any:
        """Work in a process of its own, as far as the outside sees."""
        pool = await open_pool(self.dsn, application_name="test")
        socket = EventSocket("127.0.0.1", int(self.esl_port), self.esl_password)
        socket.start()
        assert await socket.wait_connected(10)
        mail_process = MailProcess(self.dsn, pool, self.recordings, int(self.smtp_port), socket)
        found = await work(mail_process)
        await mail_process.close()
        await socket.close()
        await pool.close()
        return found

    async def leave(self, mail_process: MailProcess) -> tuple[Path, UUID]:
        """A message to be mailed and then deleted."""
        await mail_process.begin()
        shared = str(uuid4())
        if self.kind == "shared":
            await insert(mail_process.pool, switch_row(username="102", uuid=shared, file_path=str(self.recordings / "other.wav")))
        return await mail_process.leave(b"RIFFdata", uuid=shared)

    async def doomed(self, mail_process: MailProcess, notification: UUID, number: int) -> None:
        """The delivery of a process that ends before a step."""
        die_before(number)
        await mail_process.mailer.deliver(str(notification))
        for _ in range(2):  # MWI is sent twice
            await mail_process.remove(notification)

    async def outcome(self, mail_process: MailProcess, path: Path, notification: UUID) -> dict[str, Any]:
        """What is to be seen of the delivery now."""
        found, recipients = await mail_process.look(notification)
        return {
            "state": found.state,
            "recording": found.recording_state,
            "removal": await mail_process.pool.fetchval(
                "SELECT state FROM voicemail.removal WHERE message_id = $1", found.message_id
            ),
            "file": path.exists(),
            "rows": await mail_process.pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE file_path = $1", str(path)),
            "others": await mail_process.pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username = '102'"),
            "mail": found.mail_message_id,
            "unknown": any(recipient.state == "unknown" for recipient in recipients),
            "accepted": all(recipient.state == "accepted" for recipient in recipients),
        }

    async def go_on(self, mail_process: MailProcess, path: Path, notification: UUID, *, another: bool) -> dict[str, Any]:
        """What the next process finds, and what it makes of it; ``another`` message is left at its end, for the next round."""
        found = await self.outcome(mail_process, path, notification)
        await mail_process.work()
        made = await self.outcome(mail_process, path, notification)
        following = [str(left) for left in await self.leave(mail_process)] if another else ["", ""]
        return {"found": found, "made": made, "next": following}


def apart(work: Callable[[], Awaitable[Any]]) -> tuple[bool, str]:
    """Run in a forked process: whether it was killed, and what it printed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        asyncio.run(work())  # type: ignore[arg-type]
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as output:
        text = output.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == -signal.SIGKILL, text


def main(arguments: list[str]) -> None:
    """Kill before the first step, the second and so on, until one survives."""
    site = Site(arguments)

    async def leave() -> None:
        path, notification = await site.at_a_desk(site.leave)
        print("\n" + json.dumps([str(path), str(notification)]))

    _, text = apart(leave)
    path, notification = json.loads(text.splitlines()[-1])
    for number in range(1, 100):
        began = time.monotonic()
        killed, _ = apart(lambda: site.at_a_desk(lambda mail_process: site.doomed(mail_process, UUID(notification), number)))  # noqa: B023

        async def go_on() -> None:
            found = await site.at_a_desk(
                lambda mail_process: site.go_on(mail_process, Path(path), UUID(notification), another=killed)  # noqa: B023
            )
            print("\n" + json.dumps(found))

        _, text = apart(go_on)
        found = json.loads(text.splitlines()[-1])
        path, notification = found.pop("next")
        print(json.dumps({"step": number, "killed": killed, "seconds": time.monotonic() - began, **found}), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
