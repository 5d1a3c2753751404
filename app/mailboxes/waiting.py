"""Waiting a little for what a job makes of a change, so that an answer can tell."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

_LOOK_EVERY = 0.25  # seconds; another process may do the job


class Outcomes:
    """Who waits in this process for which extension."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, extension: str) -> None:
        """An attempt for this extension ended."""
        for told in self._waiting.get(extension, ()):
            told.set()

    async def wait(self, extension: str, settled: Callable[[], Awaitable[bool]], *, limit: float) -> None:
        """Wait until ``settled`` says so, but at most ``limit`` seconds. It is asked after every attempt, and now and then."""
        told = asyncio.Event()
        self._waiting[extension].add(told)
        try:
            async with asyncio.timeout(limit):
                while not await settled():
                    await _either(told)
        except TimeoutError:
            return
        finally:
            self._waiting[extension].discard(told)
            if not self._waiting[extension]:
                del self._waiting[extension]


async def _either(told: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_LOOK_EVERY):
            await told.wait()
    except TimeoutError:
        return
    told.clear()
