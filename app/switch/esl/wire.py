"""Makes greenswitch's client reliable: time limits, complete writes, and no caller that waits for ever.

Everything here runs in the thread of one gevent hub. greenswitch matches replies to commands by position, so a connection
on which that position is in doubt is ended, never repaired.
"""

import time
from collections.abc import Callable

import gevent
import gevent.event
import gevent.socket
from greenswitch.esl import ESLEvent, InboundESL

from app.errors import SwitchUnavailable
from app.switch.commands import Command
from app.switch.esl.dial import Resolver, open_socket
from app.switch.esl.reply import Event, Reply, parse_event, parse_headers

_LONGEST_HEADERS = 1 << 20
_LONGEST_BODY = 64 << 20
# gevent never leaves a socket that always has data, and a flood of events must not starve commands and time limits.
_READING_SLICE = 0.005


class WireLost(Exception):
    """The connection ended; the message gives the operator the reason."""


class WireRefused(WireLost):
    """The switch refuses this client, so a quick retry would not help."""


class PendingCommand:
    """A command on its way. greenswitch holds it in place of its own ``AsyncResult``, and so calls ``set``."""

    __slots__ = ("_finish", "abandoned", "command", "deadline")

    def __init__(self, command: Command, deadline: float, finish: Callable[[Reply | SwitchUnavailable], None]) -> None:
        self.command = command
        self.deadline = deadline
        """When the connection is given up if this is the reply it owes, by ``time.monotonic``."""
        self.abandoned = False
        """Nobody waits for the reply any more: do not send the command if it was not sent yet."""
        self._finish = finish

    def set(self, frame: "Frame") -> None:
        """The reply has come."""
        self._finish(Reply(frame.headers["Content-Type"], frame.data))

    def set_exception(self, error: Exception) -> None:
        """There will be no reply."""
        self._finish(error if isinstance(error, SwitchUnavailable) else SwitchUnavailable(str(error)))


class Frame(ESLEvent):  # type: ignore[misc]
    """What precedes a body. Unlike greenswitch's, its values are not URL-decoded: the switch does not encode them here."""

    data: str = ""

    def parse_data(self, data: str) -> None:
        """Called by greenswitch's constructor."""
        self.headers = parse_headers(data)


class Wire(InboundESL):  # type: ignore[misc]
    """One connection, from dialling to its end. ``connect`` once; after ``ended`` was called it is of no more use."""

    def __init__(
        self,
        host: str,
        port: int,
        password: str,
        *,
        resolver: Resolver,
        connect_timeout: float,
        on_event: Callable[[Event], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(host, port, password, timeout=connect_timeout)
        self.reason = "the connection was closed"
        self.heard_at = time.monotonic()
        self.sock: gevent.socket.socket | None = None
        self._commands_sent: list[PendingCommand | gevent.event.AsyncResult] = []
        self._refusal: WireRefused | None = None
        self._resolver = resolver
        self._on_event = on_event
        self._ended = ended
        self._stage = "looking the name up"
        self._read_since = self.heard_at

    @property
    def owed(self) -> list[PendingCommand]:
        """The commands whose replies are due, oldest first."""
        return self._commands_sent

    def connect(self, subscription: Command) -> None:
        """Dial, log in and subscribe. Raises ``WireLost``, or ``WireRefused``."""
        limit = gevent.Timeout(self.timeout)
        try:
            with limit:
                self._dial()
                self._log_in()
                self._subscribe(subscription)
        except gevent.Timeout as over:
            if over is not limit:
                raise
            raise WireLost(f"no answer within {self.timeout:g} s: {self._stage}") from None
        except OSError as error:
            raise WireLost(f"cannot connect: {error.strerror or error}") from None

    def _dial(self) -> None:
        self.sock = open_socket(self._resolver, self.host, self.port, self.timeout)
        self._stage = "waiting for the switch's greeting"
        self.connected = True
        self.sock_file = self.sock.makefile("rb")
        self.start_event_handlers()
        self._auth_request_event.wait()
        if not self.connected:
            raise self.loss()

    def _log_in(self) -> None:
        self._stage = "waiting for the reply to the password"
        try:
            self.authenticate()
        except ValueError:  # greenswitch says it so
            raise WireRefused("the switch refused the password") from None

    def _subscribe(self, command: Command) -> None:
        self._stage = "waiting for the reply to the subscription"
        if not self.send(command.text).data.startswith("+OK"):
            raise WireRefused("the switch refused the subscription to its events")

    def loss(self) -> WireLost:
        """Why the connection is over."""
        return self._refusal or WireLost(self.reason)

    def start_event_handlers(self) -> None:
        """Start the reader only: greenswitch's second greenlet hands events on through a queue without a bound."""
        self._receive_events_greenlet = gevent.spawn(self.receive_events)

    def send(self, data: str) -> Frame:
        """Send one command and wait for its reply; for the login, under its time limit. Raises ``WireLost``."""
        answer = gevent.event.AsyncResult()
        self._commands_sent.append(answer)
        self._write(data + "\n\n")
        frame: Frame = answer.get()
        return frame

    def push(self, calls: list[PendingCommand], limit: float) -> None:
        """Send commands without waiting for the replies; within ``limit`` seconds. Raises ``WireLost``."""
        self._commands_sent.extend(calls)
        with gevent.Timeout(limit, WireLost("the switch does not read what is sent to it")):
            self._write("".join(f"{call.command.text}\n\n" for call in calls))

    def _write(self, text: str) -> None:
        if not self.connected or self.sock is None:
            raise self.loss()
        try:
            # Not sock.send, as greenswitch does: that may write a part, and half a command.
            self.sock.sendall(text.encode())
        except OSError as error:
            raise WireLost(f"cannot send: {error.strerror or error}") from None

    def receive_events(self) -> None:
        """Read until the connection ends, then fail whatever waits for a reply. The reader greenlet's body."""
        try:
            while True:
                self.handle_event(Frame(self._read_headers()))
                self.heard_at = time.monotonic()
                self._yield_now_and_then()
        except WireLost as lost:
            self._end(lost)
        except OSError as error:
            self._end(WireLost(f"the connection broke: {error.strerror or error}"))
        except Exception as error:  # noqa: BLE001 - whatever a peer can provoke must end the connection and not the reader alone
            self._end(WireLost(f"the switch sent what cannot be read ({type(error).__name__})"))

    def _yield_now_and_then(self) -> None:
        if self.heard_at - self._read_since > _READING_SLICE:
            gevent.sleep(0)
            self._read_since = time.monotonic()

    def _read_headers(self) -> str:
        lines: list[bytes] = []
        size = 0
        while True:
            line: bytes = self.sock_file.readline(_LONGEST_HEADERS)
            if not line.endswith(b"\n"):
                raise WireLost("the switch closed the connection" if len(line) < _LONGEST_HEADERS else "a line without end")
            if line in (b"\n", b"\r\n"):
                if lines:
                    return b"".join(lines).decode(errors="replace")
                continue
            size += len(line)
            if size > _LONGEST_HEADERS:
                raise WireLost("the switch sent headers without end")
            lines.append(line)

    @staticmethod
    def _read_socket(sock: gevent.socket.socket, length: int) -> str:
        """A body of ``length`` bytes. greenswitch would spin for ever at the end of the stream, and die of odd bytes."""
        data: bytes = sock.read(length)
        if len(data) < length:
            raise WireLost("the switch closed the connection in the middle of a reply")
        return data.decode(errors="replace")

    def handle_event(self, frame: Frame) -> None:
        """Deal with one frame; greenswitch matches the replies. Raises ``WireLost``."""
        length = _content_length(frame)
        match frame.headers.get("Content-Type"):
            case "auth/request":
                super().handle_event(frame)
            case "command/reply" | "api/response" as kind:
                if not self._commands_sent:
                    raise WireLost("the switch sent a reply to no command")
                frame.headers.setdefault("Reply-Text", "")
                frame.headers["Content-Length"] = str(length)
                if kind == "command/reply":
                    self._read_socket(self.sock_file, length)
                super().handle_event(frame)
            case "text/event-plain":
                self._on_event(parse_event(self._read_socket(self.sock_file, length)))
            case "text/disconnect-notice":
                raise WireLost("the switch ended the connection")
            case "text/rude-rejection":
                raise WireRefused("the switch refuses connections from this address (its Event Socket acl)")
            case _:  # log lines, or no Content-Type at all, which would end greenswitch's reader
                self._read_socket(self.sock_file, length)

    def _end(self, lost: WireLost) -> None:
        if not self.connected:
            return
        self.connected = False
        self.reason = str(lost)
        self._refusal = lost if isinstance(lost, WireRefused) else None
        # Do this first: a caller whose command failed must not see the connection as up.
        self._ended()
        waiting, self._commands_sent = self._commands_sent, []
        for call in waiting:
            call.set_exception(lost)
        self._auth_request_event.set()

    def stop(self, reason: WireLost | None = None) -> None:
        """Close the socket and fail what waits, whatever the peer does."""
        self._end(reason or WireLost("the connection was closed"))
        reader = self._receive_events_greenlet
        if reader is not None:
            # Before the file is closed: it cannot be while somebody reads from it.
            reader.kill(timeout=1)
            self.sock_file.close()
        if self.sock is not None:
            self.sock.close()


def _content_length(frame: Frame) -> int:
    text = frame.headers.get("Content-Length", "0")
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > _LONGEST_BODY:
        raise WireLost("the switch sent a length that cannot be")
    return int(text)
