"""The one loop for everything that waits for a wake-up or a time, does a step, and backs off when something is away."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.errors import Unavailable, VoicemailError
from app.jobs.retries import Retries

log = structlog.get_logger(__name__)

Step = Callable[[], Awaitable[None]]


class Trouble:
    """Logs a trouble when it begins and when it ends, not at every try."""

    def __init__(self, name: str) -> None:
        """``name``: what the log events begin with, such as ``intake``."""
        self._name = name
        self._last = ""

    def __bool__(self) -> bool:
        return bool(self._last)

    def tell(self, reason: str) -> None:
        """Log ``NAME_waiting`` if this reason is not the last one told."""
        if reason != self._last:
            self._last = reason
            log.warning(f"{self._name}_waiting", reason=reason)

    def over(self) -> None:
        """Log ``NAME_working`` if there was a trouble."""
        if self._last:
            self._last = ""
            log.info(f"{self._name}_working")


class Loop:
    """Runs one idempotent step for ever: after ``wake``, and every ``every`` seconds without one.

    If a step fails because something is away (``VoicemailError``), the loop says so once and tries again with growing pauses.
    Any other exception is a fault and leaves ``run``; cancelling ends it at once.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        every: float,
        after_wake: tuple[float, ...] = (),
        least: float = 0.0,
        retries: Retries = Retries(first=0.5, longest=15.0),  # noqa: B008 - it is frozen
    ) -> None:
        """``after_wake``: seconds until the further steps that one wake-up is worth, for hints that come before their cause.

        ``least``: seconds between two steps, however many wake-ups come.
        """
        self._name, self._step, self._every = name, step, every
        self._after_wake, self._least, self._retries = after_wake, least, retries
        self._woken = asyncio.Event()
        self._delays: list[float] = []
        self._trouble = Trouble(name)

    def wake(self) -> None:
        """Make a step soon."""
        self._woken.set()

    async def run(self) -> None:
        """Make steps until cancelled; the first one at once."""
        failures = 0
        while True:
            try:
                await self._step()
            except VoicemailError as error:
                failures += 1
                self._trouble.tell(error.detail if isinstance(error, Unavailable) else f"{type(error).__name__}: {error.detail}")
                await asyncio.sleep(self._retries.delay(failures))
                continue
            failures = 0
            self._trouble.over()
            await self._wait()

    async def _wait(self) -> None:
        if self._least:
            await asyncio.sleep(self._least)
        delay = self._delays.pop(0) if self._delays else self._every
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()
        self._delays = list(self._after_wake)
