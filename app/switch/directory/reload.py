"""Making the switch read its static directory again, once for all callers that ask at about the same time."""

import asyncio
import time

import structlog
from prometheus_client import Histogram

from app.switch import commands
from app.switch.directory.model import DirectoryRefused
from app.switch.esl.event_socket import EventSocket

log = structlog.get_logger(__name__)

_LONGEST = 120.0  # seconds; with tens of thousands of static users the switch takes many
_LONGEST_REPLY = 300
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Reloader:
    """Shares one ``reloadxml`` between callers. A caller that arrives during a reload waits for the next one."""

    def __init__(self, switch: EventSocket, *, gather: float = 0.02) -> None:
        """``gather``: seconds to wait for others before each reload."""
        self._switch = switch
        self._gather = gather
        self._next: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self.seconds = Histogram(
            "voicemail_reload_seconds",
            "Seconds that the switch took to read its directory again, by result: ok, refused or unanswered",
            ["result"],
            buckets=_SECONDS,
            registry=None,
        )

    async def reload(self) -> None:
        """Wait for a reload that begins after this call.

        Raises ``DirectoryRefused`` with the switch's reply if it kept its old configuration, and ``SwitchUnavailable``.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._turn(self._running))
            self._next.add_done_callback(_seen)
        await asyncio.shield(self._next)

    async def _turn(self, previous: asyncio.Task[None] | None) -> None:
        await asyncio.sleep(self._gather)
        if previous is not None:
            await asyncio.wait({previous})
        self._running, self._next = self._next, None
        began, result = time.monotonic(), "unanswered"
        try:
            reply = await self._switch.command(commands.reload_xml(), timeout=_LONGEST)
            # Broken XML, anybody's, is answered with +OK as well.
            result = "ok" if reply.text.startswith("+OK [Success]") else "refused"
        finally:
            self.seconds.labels(result).observe(time.monotonic() - began)
        if result == "refused":
            text = " ".join(reply.text.split())[:_LONGEST_REPLY]
            log.warning("switch_reload_refused", reply=text)
            raise DirectoryRefused(f"the switch could not read its configuration again: {text}")


def _seen(task: "asyncio.Task[None]") -> None:
    # If every waiting caller was cancelled, nobody else retrieves the exception.
    if not task.cancelled():
        task.exception()
