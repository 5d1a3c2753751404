"""The Event Socket for asyncio: ``await command(…)`` in front, greenswitch in a thread of its own behind.

What crosses between the two are commands (by ``Link.submit``) and news (by ``call_soon_threadsafe``, many at a time).
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from app.errors import Invalid, SwitchUnavailable
from app.switch.commands import Command, subscribe
from app.switch.esl.link import Link, Terms
from app.switch.esl.reply import Event, Reply
from app.switch.esl.wire import PendingCommand

__all__ = ["Command", "Event", "EventSocket", "Reply"]

log = structlog.get_logger(__name__)

# The most items that the loop handles in one turn, so that a flood leaves time for other work.
_NEWS_A_TURN = 200
_CLOSE_WITHIN = 2.0


class EventSocket:
    """One authenticated Event Socket connection, kept alive. All of it is used from one asyncio loop.

    Commands are answered in the order they are given. One that is not answered in time costs the connection, because
    replies are matched by position: everything that waits fails with ``SwitchUnavailable``, and a new connection is made.
    Times are in seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str,
        *,
        events: Sequence[str] = ("MESSAGE_WAITING", "RELOADXML"),
        subclasses: Sequence[str] = ("vm::maintenance",),
        command_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        first_backoff: float = 0.2,
        longest_backoff: float = 15.0,
        keepalive: float = 5.0,
        most_waiting: int = 10_000,
    ) -> None:
        if not password.isprintable():
            raise Invalid.field("password", "must not hold line breaks or control characters")
        terms = Terms(
            host=host,
            port=port,
            password=password,
            subscription=subscribe(events, subclasses),
            command_timeout=command_timeout,
            connect_timeout=connect_timeout,
            first_backoff=first_backoff,
            longest_backoff=longest_backoff,
            keepalive=keepalive,
        )
        self._peer = f"{host}:{port}"
        self._timeout = command_timeout
        self._most_waiting = most_waiting
        self._link = Link(terms, self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = asyncio.Event()
        self._over = asyncio.Event()
        self._error = "not started"
        self._logged = ""
        self._news: deque[Callable[[], None]] = deque()
        # Events are hints: if the loop cannot keep up, the oldest are dropped.
        self._hints: deque[Event] = deque(maxlen=10_000)
        self._dropped = 0
        self._called = False
        self._closed = False
        self._on_event: list[Callable[[Event], None]] = []
        self._on_connect: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """Whether commands can be sent now."""
        return self._up.is_set()

    @property
    def error(self) -> str:
        """Why there is no connection, for an operator; ``''`` while there is one. Holds no secret."""
        return self._error

    def start(self) -> None:
        """Begin to connect, and to connect again whenever the connection is lost, until ``close``. Returns at once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._error = "connecting"
            self._link.start()

    async def close(self) -> None:
        """Drop the connection, fail what waits, and end the thread; within 2 s whatever the peer does."""
        if self._loop is None or self._closed:
            return
        self._on_event.clear()
        self._on_connect.clear()
        self._closed = True
        self._up.clear()
        self._error = "closed"
        self._link.stop()
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._over.wait()
        except TimeoutError:
            log.warning("switch_thread_left_behind", switch=self._peer)

    async def command(self, command: Command, *, timeout: float | None = None) -> Reply:
        """Send one command and wait for its reply, at most ``timeout`` seconds from now (default: ``command_timeout``).

        Raises ``SwitchUnavailable``: no connection, lost meanwhile, too slow, or too many commands waiting. Except in the
        first and last case the command may have been carried out all the same.
        """
        if not self.connected:
            raise SwitchUnavailable(f"the switch at {self._peer} is not connected: {self._error}")
        if self._link.waiting >= self._most_waiting:
            raise SwitchUnavailable(f"{self._most_waiting} commands are waiting for the switch already")
        limit = self._timeout if timeout is None else timeout
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        call = PendingCommand(command, time.monotonic() + limit, functools.partial(self._answered, answer))
        try:
            async with asyncio.timeout(limit):
                self._link.submit(call)
                return await answer
        except TimeoutError:
            raise SwitchUnavailable(f"the switch did not answer {command.name} within {limit:g} s") from None
        finally:
            call.abandoned = True

    async def wait_connected(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for a connection; whether there is one."""
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    def on_event(self, callback: Callable[[Event], None]) -> None:
        """Call ``callback`` on the loop for every event. It must be quick: set an ``asyncio.Event``, say."""
        self._on_event.append(callback)

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop after every connect and subscribe: earlier events may have been missed."""
        self._on_connect.append(callback)

    # Called in the hub's thread

    def link_up(self) -> None:
        """Logged in and subscribed."""
        self._tell(self._raise)

    def link_lost(self) -> None:
        """The connection is over."""
        self._tell(self._lose)

    def link_down(self, reason: str, retry_in: float) -> None:
        """Not connected."""
        self._tell(functools.partial(self._lower, reason, retry_in))

    def link_event(self, event: Event) -> None:
        """An event came."""
        if len(self._hints) == self._hints.maxlen:
            self._dropped += 1
        self._hints.append(event)
        self._call_loop()

    def link_over(self) -> None:
        """The thread has ended."""
        self._tell(self._over.set)

    def _answered(self, answer: asyncio.Future[Reply], result: Reply | SwitchUnavailable) -> None:
        self._tell(functools.partial(_settle, answer, result))

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        self._call_loop()

    def _call_loop(self) -> None:
        if self._called or self._loop is None:
            return
        self._called = True
        try:
            self._loop.call_soon_threadsafe(self._take_news)
        except RuntimeError:
            # The loop was closed without close(): nobody is left to tell.
            self._link.stop()

    # Called on the loop

    def _take_news(self) -> None:
        # First, so that whatever is appended from here on calls again.
        self._called = False
        for _ in range(min(len(self._news), _NEWS_A_TURN)):
            self._news.popleft()()
        for _ in range(min(len(self._hints), _NEWS_A_TURN)):
            self._pass_on(self._hints.popleft())
        if self._news or self._hints:
            self._call_loop()

    def _pass_on(self, event: Event) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            log.warning("switch_events_dropped", switch=self._peer, count=dropped)
        for callback in self._on_event:
            _call(callback, event)

    def _raise(self) -> None:
        if self._closed:
            return
        self._error = self._logged = ""
        self._up.set()
        log.info("switch_connected", switch=self._peer)
        for callback in self._on_connect:
            _call(callback)

    def _lose(self) -> None:
        self._up.clear()
        self._error = self._error or "the connection was lost"

    def _lower(self, reason: str, retry_in: float | None = None) -> None:
        if self._closed:
            return
        self._up.clear()
        self._error = reason
        if not self._logged:
            log.warning("switch_disconnected", switch=self._peer, reason=reason, retry_in=retry_in)
        elif reason != self._logged:  # one warning an outage; an attempt every few seconds need not say the same every time
            log.info("switch_still_away", switch=self._peer, reason=reason)
        self._logged = reason


def _settle(answer: asyncio.Future[Reply], result: Reply | SwitchUnavailable) -> None:
    if answer.done():
        return
    if isinstance(result, Reply):
        answer.set_result(result)
    else:
        answer.set_exception(result)


def _call(callback: Callable[..., None], *args: Event) -> None:
    """Call a registered callback; an exception of it is logged and goes no further."""
    try:
        callback(*args)
    except Exception as error:
        log.error("switch_callback_failed", error=type(error).__name__, exc_info=True)
