"""Waits a short time for a job's result, so that an answer can include it."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from app.addressing import MailboxAddress

_FIRST_LOOK, _LONGEST = 0.25, 1.0  # seconds between two looks: another process may do the work


class Waiters:
    """The requests of this process that wait for a mailbox."""

    def __init__(self) -> None:
        self._waiting: defaultdict[MailboxAddress, set[asyncio.Event]] = defaultdict(set)

    def tell(self, address: MailboxAddress) -> None:
        """An attempt for this mailbox ended."""
        for told in self._waiting.get(address, ()):
            told.set()

    async def wait(self, address: MailboxAddress, settled: Callable[[], Awaitable[bool]], *, limit: float) -> None:
        """Wait until ``settled`` says so, but at most ``limit`` seconds. It is asked after every attempt, and now and then."""
        told = asyncio.Event()
        self._waiting[address].add(told)
        try:
            async with asyncio.timeout(limit):
                pause = _FIRST_LOOK
                while not await settled():
                    await _either(told, pause)
                    pause = min(2 * pause, _LONGEST)
        except TimeoutError:
            return
        finally:
            self._waiting[address].discard(told)
            if not self._waiting[address]:
                del self._waiting[address]


async def _either(told: asyncio.Event, pause: float) -> None:
    try:
        async with asyncio.timeout(pause):
            await told.wait()
    except TimeoutError:
        return
    told.clear()
