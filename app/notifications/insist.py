"""Writes an outcome, also to a database that is being restarted: a mail whose acceptance is forgotten is sent twice."""

import asyncio
from collections.abc import Awaitable, Callable

from app.errors import DatabaseFailed
from app.jobs.repeats import Repeats
from app.jobs.retries import Retries

_WRITING = Retries(first=0.1, longest=2.0)  # between tries to write while the database is away


async def insist(write: Callable[[], Awaitable[None]], patience: float, repeats: Repeats) -> None:
    """Write; if the database fails, again for ``patience`` seconds. Raises what the last try raised."""
    loop = asyncio.get_running_loop()
    deadline, tries = loop.time() + patience, 1
    while True:
        try:
            await write()
        except DatabaseFailed as error:
            pause = _WRITING.delay(tries)
            if loop.time() + pause > deadline:
                raise
            repeats.tell("mail_outcome_waits", error.detail, cause=error.reason)
            await asyncio.sleep(pause)
            tries += 1
        else:
            repeats.over("mail_outcome_waits", now="mail_outcomes_written")
            return
