"""One client's connection: aiohttp's own protocol, with deadlines, and with problems instead of quotations for errors.

aiohttp has no deadline for headers, bodies or slow readers, and its log quotes malformed requests, tokens and PINs in
them. This class overrides methods of ``web.RequestHandler`` that have public names; the one private attribute
that it reads is ``_messages``.
"""

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress
from enum import Enum
from secrets import token_hex
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpProcessingError, RawRequestMessage

from app.errors import VoicemailError
from app.http.client_errors import ClientErrors
from app.http.limits import ConnectionLimits
from app.http.problems import BadRequest, RequestTimeout, problem, problem_of

SERVER = "voicemail"  # no version: it would only tell an attacker what to try
_MALFORMED = "the request is malformed"
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nServer: voicemail\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"X-Request-ID: %s\r\nContent-Length: %d\r\n\r\n%s"
)
_REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nServer: voicemail\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Retry-After: 5\r\nX-Request-ID: %s\r\nContent-Length: %d\r\n\r\n%s"
)


class Edge(Protocol):
    """What a connection needs of its server."""

    limits: ConnectionLimits
    errors: ClientErrors

    def admit(self, connection: "Connection") -> bool:
        """Whether a new connection may stay."""

    def forget(self, connection: "Connection") -> None:
        """A connection is over."""


class Phase(Enum):
    """What a connection does now."""

    HEAD = "head"  # no request has arrived whole
    BODY = "body"
    WORK = "work"  # it is being answered
    IDLE = "idle"  # between two requests
    CLOSING = "closing"


class Connection(web.RequestHandler):
    """One connection. The server asks each one every second whether its time is over."""

    __slots__ = (
        "_edge",
        "_payload",
        "_socket_transport",
        "_waiting_bytes",
        "address",
        "group",
        "phase",
        "served",
        "since",
        "touched",
    )

    def __init__(self, server: web.Server, edge: Edge, **options: Any) -> None:
        super().__init__(server, **options)
        self._edge = edge
        self.phase, self.since = Phase.HEAD, self._loop.time()
        self.served = 0  # requests
        self.touched = False  # whether any byte of the request came that is awaited
        self.address = self.group = ""
        self._payload: StreamReader | None = None
        self._socket_transport: asyncio.Transport | None = None
        self._waiting_bytes = (0, 0.0)  # what the client has not taken, and since when it is as much

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._socket_transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        if self._edge.admit(self):
            super().connection_made(transport)
            return
        self._edge.errors.note("TooManyConnections", self.address)
        self.force_close()
        self.phase = Phase.CLOSING
        self._socket_transport.write(_raw(_REFUSED, 503, "there are too many connections", token_hex(16)))
        self._socket_transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by asyncio."""
        self._edge.forget(self)
        self.phase = Phase.CLOSING
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        super().data_received(data)
        if self.phase is Phase.IDLE:
            self.phase, self.since = Phase.HEAD, self._loop.time()
        if self.phase is Phase.HEAD:
            self.touched = True
        elif self.phase is Phase.BODY and self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            # aiohttp queues the parser's error behind this request, which would wait for the rest of its body for ever.
            self._fail_body(BadRequest("the body is malformed"))

    def began(self, payload: StreamReader) -> None:
        """The head of a request has arrived, and it is answered from now on."""
        self.served += 1
        self.touched = False
        self._payload = payload
        self.phase, self.since = Phase.WORK if payload.is_eof() else Phase.BODY, self._loop.time()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Called by aiohttp when a handler has returned; sends the response."""
        if isinstance(resp, web.HTTPException):  # raised before the application's own gate, as for a wrong Expect
            resp = _outside_the_gate(problem_of(resp), token_hex(16))
        if not request.content.is_eof():
            resp.force_close()  # what is left of the body must not be read as the next request
        found = await super().finish_response(request, resp, start_time)
        self._payload = None
        if self.phase is not Phase.CLOSING:
            self.phase, self.since = Phase.IDLE, self._loop.time()
        return found

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """Called by aiohttp if the parser or the application fails; the problem that is the answer."""
        request_id = token_hex(16)
        if isinstance(exc, HttpProcessingError) or status == 400:
            self._edge.errors.note(type(exc).__name__, self.address, request_id)
            found = problem(400, _MALFORMED)
        elif isinstance(exc, Exception):
            found = problem_of(exc)
        else:
            found = problem(status, "there was no answer in time")
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer was sent already")
        found.force_close()
        return _outside_the_gate(found, request_id)

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ARG002 - the text of an exception may quote a client
        """Called by aiohttp for what it did not expect."""
        error = kw.get("exc_info")
        if not isinstance(error, VoicemailError):  # which _fail_body gave to the body, and the client has its answer
            self._edge.errors.note(type(error).__name__, self.address)

    def log_debug(self, *args: Any, **kw: Any) -> None:
        """Nothing: aiohttp tells here, with exceptions, what is known already."""

    @property
    def waits(self) -> bool:
        """Whether it waits for its client: for a request, the rest of one, or until the client takes the answer."""
        return self.phase is not Phase.WORK or self.writing_paused

    def look(self, now: float) -> None:
        """End what takes longer than it may. Called by the server again and again."""
        limits = self._edge.limits
        if self._stalls(now):
            self._edge.errors.note("StalledReader", self.address)
            self.end()
        elif self.phase is Phase.HEAD and now - self.since >= limits.head:
            self._edge.errors.note("SlowHead", self.address)
            self._give_up_waiting(_raw(_TOO_SLOW, 408, "the headers did not arrive in time", token_hex(16)))
        elif self.phase is Phase.IDLE and now - self.since >= limits.idle:
            self._give_up_waiting()
        elif self.phase is Phase.BODY and (self._payload is None or self._payload.is_eof()):
            self.phase = Phase.WORK
        elif self.phase is Phase.BODY and now - self.since >= limits.body:
            self._edge.errors.note("SlowBody", self.address)
            self._fail_body(RequestTimeout())

    def end(self) -> None:
        """Close at once, without waiting until the client has taken what was written."""
        self.phase = Phase.CLOSING
        if self._socket_transport is not None:
            self._socket_transport.abort()

    def _give_up_waiting(self, last_words: bytes = b"") -> None:
        if last_words and self.touched and self.transport is not None:
            self.transport.write(last_words)
        self.phase = Phase.CLOSING
        self.force_close()

    def _fail_body(self, error: Exception) -> None:
        self.phase = Phase.WORK
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)

    def _stalls(self, now: float) -> bool:
        """Whether the client has taken nothing for too long of what waits for it, here or in the system's buffer."""
        transport = self._socket_transport
        if transport is None or not (here := transport.get_write_buffer_size()):
            self._waiting_bytes = (0, now)
            return False
        # What is here only shrinks when the system's buffer has room for much; what the client has acknowledged shows sooner.
        waiting = here + _unacknowledged(transport)
        if waiting != self._waiting_bytes[0]:
            self._waiting_bytes = (waiting, now)
        return now - self._waiting_bytes[1] >= self._edge.limits.stall


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes in the system's send buffer (``SIOCOUTQ``, which has the number of ``TIOCOUTQ``)."""
    with suppress(OSError, ValueError, AttributeError):
        found = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", found)[0])
    return 0


def _outside_the_gate(response: web.Response, request_id: str) -> web.Response:
    response.headers.update({"Server": SERVER, "X-Request-ID": request_id, "X-Content-Type-Options": "nosniff"})
    return response


def _raw(frame: bytes, status: int, detail: str, request_id: str) -> bytes:
    body = problem(status, detail).body
    assert isinstance(body, bytes)
    return frame % (request_id.encode(), len(body), body)
