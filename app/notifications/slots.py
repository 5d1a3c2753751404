"""Lets a slow delivery continue outside its job, so a slow mail server does not block other mails."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from app.errors import DatabaseUnavailable, places_of

log = structlog.get_logger(__name__)

GIVE_WAY = 5.0  # seconds; most mail servers answer within one
SLOW_A_PLACE = 4  # slow mails for each mail at once: with 10, 50 connections, which is Postfix's limit for a client


class Slots:
    """Runs deliveries. One that takes longer than ``give_way`` seconds goes on by itself, and its job ends.

    At most ``slow`` of them go on like that; a further one keeps its job until it ends or a place is free.
    """

    def __init__(self, *, slow: int, give_way: float = GIVE_WAY) -> None:
        self._give_way = give_way
        self._room = asyncio.Semaphore(slow)
        self._slow: set[asyncio.Task[None]] = set()

    @property
    def slow(self) -> int:
        """How many deliveries go on by themselves now."""
        return len(self._slow)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` to its end, or until it goes on by itself. Raises what it raises until then."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=self._give_way)
            if not task.done() and await self._may_go_on(task):
                self._slow.add(task)
                task.add_done_callback(self._ended)
                log.info("mail_slow", slow=len(self._slow))
                return
        except BaseException:
            await _cancelled(task)
            raise
        task.result()

    async def close(self) -> None:
        """End what goes on; the ledger says what is to be done about it."""
        await _cancelled(*self._slow)

    async def _may_go_on(self, task: "asyncio.Task[None]") -> bool:
        """Wait for room; False if the work ended before there was any."""
        room = asyncio.ensure_future(self._room.acquire())
        try:
            await asyncio.wait({task, room}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return True
        except BaseException:
            self._no_more(room)
            raise
        self._no_more(room)
        return False

    def _no_more(self, room: "asyncio.Task[bool]") -> None:
        if room.done():
            self._room.release()
        else:
            room.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._slow.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, DatabaseUnavailable):
            # The text of an exception may quote private data, so only its type and place are logged.
            log.error("mail_attempt_failed", error=type(error).__name__, at=places_of(error)[-1:])


async def _cancelled(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
