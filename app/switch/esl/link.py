"""Keeps one ``Wire`` to the switch alive: connects, watches, disconnects after silence, and connects again."""

import random
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import gevent
import gevent.event
import structlog

from app.errors import SwitchUnavailable
from app.switch.commands import Command, version
from app.switch.esl.dial import Resolver
from app.switch.esl.hub import HubThread
from app.switch.esl.reply import Event, Reply
from app.switch.esl.wire import PendingCommand, Wire, WireLost, WireRefused

log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 256
# If a connection lasted this long, the next attempt starts from the first backoff again.
_GOOD_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Terms:
    """The switch's address, the events to subscribe to, and the time limits in seconds."""

    host: str
    port: int
    password: str
    subscription: Command
    command_timeout: float
    connect_timeout: float
    first_backoff: float
    longest_backoff: float
    keepalive: float

    def __repr__(self) -> str:
        return f"Terms({self.host}:{self.port})"


class Listener(Protocol):
    """The receiver of the link's news. It is called in the hub's thread, so it must only pass the news on."""

    def link_up(self) -> None:
        """Logged in and subscribed."""

    def link_lost(self) -> None:
        """Not connected from now on; the commands that waited are about to be failed."""

    def link_down(self, reason: str, retry_in: float) -> None:
        """Not connected; every command that waited has been failed."""

    def link_event(self, event: Event) -> None:
        """An event came."""

    def link_over(self) -> None:
        """The thread has ended."""


class Link:
    """The gevent side of an ``EventSocket``. ``start``, ``submit`` and ``stop`` may be called from any thread."""

    def __init__(self, terms: Terms, listener: Listener) -> None:
        self._terms = terms
        self._listener = listener
        self._submitted: deque[PendingCommand] = deque()
        self._wire: Wire | None = None
        self._woken = gevent.event.Event()
        self._thread = HubThread("event-socket", self._keep_connected, listener.link_over)
        self._resolver = Resolver(self._thread.post)

    @property
    def waiting(self) -> int:
        """How many commands wait to be sent or to be answered."""
        wire = self._wire
        return len(self._submitted) + (len(wire.owed) if wire else 0)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Close the connection, fail every command, end the thread. Returns at once; ``link_over`` tells the end."""
        self._thread.stop()

    def submit(self, call: PendingCommand) -> None:
        """Send a command as soon as its turn comes, or fail it when there is no connection."""
        self._submitted.append(call)
        if not self._thread.post(self._wake):
            self._refuse_submitted("the connection is closed")

    def _wake(self) -> None:
        if self._wire is None:
            self._refuse_submitted("the switch is not connected")
        self._woken.set()

    def _refuse_submitted(self, reason: str) -> None:
        while self._submitted:
            self._submitted.popleft().set_exception(SwitchUnavailable(reason))

    def _keep_connected(self) -> None:
        failures = 0
        while True:
            lost, lasted = self._connect_and_serve()
            failures = 0 if lasted > _GOOD_AFTER else failures + 1
            delay = self._backoff(lost, failures)
            self._listener.link_down(str(lost), delay)
            gevent.sleep(delay)

    def _backoff(self, lost: WireLost, failures: int) -> float:
        terms = self._terms
        if isinstance(lost, WireRefused):
            return terms.longest_backoff
        delay = min(terms.longest_backoff, terms.first_backoff * 2.0 ** min(failures, 30))
        # Jitter, so that the copies of a service do not all come back at once.
        return delay * random.uniform(0.5, 1.0)

    def _connect_and_serve(self) -> tuple[WireLost, float]:
        """One connection from beginning to end: why it ended, and how many seconds it was of use."""
        terms = self._terms
        wire = Wire(
            terms.host,
            terms.port,
            terms.password,
            resolver=self._resolver,
            connect_timeout=terms.connect_timeout,
            on_event=self._listener.link_event,
            ended=self._ended,
        )
        up_at = time.monotonic()
        lost = WireLost("the connection was closed")
        try:
            wire.connect(terms.subscription)
            up_at = time.monotonic()
            self._wire = wire
            self._listener.link_up()
            self._serve(wire)
        except WireLost as error:
            lost = error
        except Exception as error:
            log.exception("switch_connection_failed", error=type(error).__name__)
            lost = WireLost(f"an error of this service: {type(error).__name__}")
        finally:
            lasted = time.monotonic() - up_at
            self._wire = None
            wire.stop(lost)
            self._refuse_submitted(str(lost))
        return lost, lasted

    def _ended(self) -> None:
        self._listener.link_lost()
        self._woken.set()

    def _serve(self, wire: Wire) -> None:
        """Send what is submitted and watch the clock, until the connection is lost."""
        last_deadline = 0.0
        while wire.connected:
            self._woken.clear()
            last_deadline = self._send_submitted(wire, last_deadline)
            self._woken.wait(self._time_left(wire))
        raise wire.loss()

    def _send_submitted(self, wire: Wire, last_deadline: float) -> float:
        while self._submitted:
            batch = [self._submitted.popleft() for _ in range(min(len(self._submitted), _MOST_AT_ONCE))]
            batch = [call for call in batch if not call.abandoned]
            for call in batch:
                # Replies come in order: one that is asked for later cannot be overdue before one that was asked for earlier.
                call.deadline = last_deadline = max(call.deadline, last_deadline)
            if batch:
                oldest = wire.owed[0] if wire.owed else batch[0]
                wire.push(batch, limit=max(0.05, oldest.deadline - time.monotonic()))
        return last_deadline

    def _time_left(self, wire: Wire) -> float:
        """Seconds until the switch counts as silent; asks it for a sign of life when it has had nothing to say."""
        now = time.monotonic()
        if wire.owed:
            overdue = wire.owed[0]
            if now >= overdue.deadline:
                raise WireLost(f"the switch did not answer {overdue.command.name} in time")
            return overdue.deadline - now
        quiet = now - wire.heard_at
        if quiet < self._terms.keepalive:
            return self._terms.keepalive - quiet
        limit = min(self._terms.command_timeout, 2 * self._terms.keepalive)
        wire.push([PendingCommand(version(), now + limit, _ignore)], limit)
        return limit


def _ignore(_reply: Reply | SwitchUnavailable) -> None:
    """Ignore the reply: it only shows that the switch is alive."""
