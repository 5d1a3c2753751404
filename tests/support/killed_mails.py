"""Sends many mails in one process after another, each killed -9 at a moment of its own, until the last one may finish.

Run as ``python killed_mails.py DSN RECORDINGS SMTP_PORT MAILS_AT_ONCE KILLS``, with the checkout and its tests in PYTHONPATH. The
sender of a mail says which process sent it: ``life-0@lab.local`` and so on.
"""

import asyncio
import os
import random
import select
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.database.pool import open_pool
from app.jobs.sweep import Sweep
from app.notifications import store as ledger
from app.notifications.mail.conversation import Limits
from app.notifications.model import NOTIFY, MailRetries, Outcome
from tests.support.mail_process import MailProcess

RETRIES = MailRetries(first=0.05, longest=0.5, lease=0.5, unknown_pause=0.8)
_UNSETTLED = "SELECT EXISTS (SELECT FROM voicemail.notification WHERE state = 'queued')"


async def live(dsn: str, recordings: Path, smtp_port: int, at_once: int, life: int, begun: int) -> None:
    """Mail until everything is settled; ``begun`` is written to as soon as a mail was sent."""
    pool = await open_pool(dsn, application_name="test")
    sender = f"life-{life}@lab.local"
    mail_process = MailProcess(
        dsn, pool, recordings, smtp_port, None, retries=RETRIES, limits=Limits(), connections=at_once, sender=sender
    )  # type: ignore[arg-type]
    mail_process.jobs._heartbeat = timedelta(seconds=1)  # what the dead had begun is not waited for as long as in production
    mail_process.jobs.register(NOTIFY, mail_process.mailer.deliver, concurrency=at_once)
    send = mail_process.transport.send

    async def told(*args: Any, **kwargs: Any) -> list[Outcome]:
        outcomes = await send(*args, **kwargs)
        os.write(begun, b".")
        return outcomes

    mail_process.transport.send = told  # type: ignore[method-assign]
    running = [
        asyncio.ensure_future(mail_process.jobs.run()),
        asyncio.ensure_future(Sweep(pool, mail_process.jobs, {NOTIFY: ledger.due}, interval=0.1).run()),
    ]
    while await pool.fetchval(_UNSETTLED):
        await asyncio.sleep(0.05)
    for task in running:
        task.cancel()
    await asyncio.wait(running)


def main(arguments: list[str]) -> None:
    """Kill one process after the other, and let the last one end by itself."""
    dsn, recordings, smtp_port, at_once, kills = arguments
    chance = random.Random(9)
    for life in range(int(kills) + 1):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(live(dsn, Path(recordings), int(smtp_port), int(at_once), life, writing))
            os._exit(0)
        os.close(writing)
        if life < int(kills):
            select.select([reading], [], [], 10)
            time.sleep(chance.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        os.close(reading)
    print("settled", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
