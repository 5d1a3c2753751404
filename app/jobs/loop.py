"""The one loop for everything that waits for a wake-up or a time, does a step, and backs off when something is away."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.errors import DatabaseUnavailable, Unavailable, VoicemailError, file_and_reason
from app.jobs.retries import Retries

log = structlog.get_logger(__name__)

Step = Callable[[], Awaitable[None]]


class Trouble:
    """Logs a failure when it begins and when it ends, not at every try."""

    def __init__(self, name: str) -> None:
        """``name``: what the log events begin with, such as ``intake``."""
        self._name = name
        self._last = ""

    def __bool__(self) -> bool:
        return bool(self._last)

    def tell(self, reason: str, *, event: str | None = None, **facts: object) -> None:
        """Log ``NAME_waiting``, or ``event``, if this reason is not the last one told."""
        if reason != self._last:
            self._last = reason
            log.warning(event or f"{self._name}_waiting", reason=reason, **facts)

    def tell_error(self, error: VoicemailError | OSError) -> None:
        """The same for an error, with a text that holds no value of a statement."""
        if isinstance(error, DatabaseUnavailable):
            self.tell(error.detail, cause=error.reason)
        elif isinstance(error, Unavailable):
            self.tell(error.detail)
        elif isinstance(error, VoicemailError):
            self.tell(f"{type(error).__name__}: {error.detail}")
        else:
            self.tell(file_and_reason(error))

    def over(self, *, event: str | None = None) -> None:
        """Log ``NAME_working``, or ``event``, if there was a trouble."""
        if self._last:
            self._last = ""
            log.info(event or f"{self._name}_working")


class Loop:
    """Runs one idempotent step for ever: after ``wake``, and every ``every`` seconds without one.

    If a step fails because something is away (``VoicemailError``, ``OSError``), the loop says so once and tries again with
    growing pauses. Any other exception is a fault and leaves ``run``; cancelling ends it at once.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        every: float | Callable[[], float] | None,
        wait: Step | None = None,
        after_wake: tuple[float, ...] = (),
        least: float = 0.0,
        retries: Retries = Retries(first=0.5, longest=15.0),  # noqa: B008 - it is frozen
    ) -> None:
        """``every``: seconds, a function that says how many, or None to wait for wake-ups only.

        ``wait``: waits in place of the loop; if it fails, that counts as a failed step.

        ``after_wake``: seconds until the further steps that one wake-up is worth, for hints that come before their cause.

        ``least``: the minimum of seconds between two steps.
        """
        self._step, self._every, self._wait = step, every, wait or self._wait_for_wake
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
                failures = 0
                self._trouble.over()
                await self._wait()
            except (VoicemailError, OSError) as error:
                failures += 1
                self._trouble.tell_error(error)
                await asyncio.sleep(self._retries.delay(failures))

    async def _wait_for_wake(self) -> None:
        if self._least:
            await asyncio.sleep(self._least)
        every = self._every() if callable(self._every) else self._every
        delay = self._delays.pop(0) if self._delays else every
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()
        self._delays = list(self._after_wake)
