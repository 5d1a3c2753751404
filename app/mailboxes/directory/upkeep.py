"""Lets what waits be tried when the switch is back, and at the start."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.errors import DatabaseFailed
from app.mailboxes.directory.publisher import DirectoryPublisher

log = structlog.get_logger(__name__)

_PAUSE = 2.0  # seconds between two tries while the database is away


class DirectoryUpkeep:
    """Runs in the process that leads."""

    def __init__(self, publisher: DirectoryPublisher) -> None:
        self._publisher = publisher
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The switch is back: what waits for it is tried now."""
        self._woken.set()

    async def run(self) -> None:
        """Look for what waits, until cancelled."""
        self._woken.set()
        while True:
            if self._woken.is_set():
                self._woken.clear()
                await self._insist(self._publisher.resume)
            await self._woken.wait()

    async def _insist(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except DatabaseFailed as error:
                log.warning("directory_upkeep_waiting", error=type(error).__name__)
                await asyncio.sleep(_PAUSE)
            else:
                return
