"""The HTTP server: aiohttp's, with the limits of ``app.http.limits`` around it.

Only documented parts of aiohttp are put together: ``web.Server`` makes a protocol object for each connection, and
``web.ServerRunner`` serves with it.
"""

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from itertools import islice

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from app.http.client_errors import ClientErrors
from app.http.connection import Connection
from app.http.limits import ConnectionLimits
from app.networks import client_of, lies_in

_LOOK = 1.0  # seconds between looks at all connections, or less if a limit is short
_LINGER = 2.0  # seconds in which a refused body is still read and dropped, so that the client sees the answer before a reset


async def listen(
    application: web.Application, host: str, port: int, *, limits: ConnectionLimits, stack: AsyncExitStack, last_requests: float
) -> tuple[str, int]:
    """Serve an application until ``stack`` closes; the address and port. ``last_requests``: seconds for what is under way then.

    Raises ``OSError`` if the port cannot be listened on.
    """
    inner = web.AppRunner(application, access_log=None)
    await inner.setup()
    stack.push_async_callback(inner.cleanup)
    assert inner.server is not None
    edge = EdgeServer(inner.server, limits)
    runner = web.ServerRunner(edge, shutdown_timeout=last_requests)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port, backlog=limits.backlog).start()
    looking = asyncio.ensure_future(edge.run())

    async def stop_looking() -> None:
        looking.cancel()
        await asyncio.wait([looking])

    stack.push_async_callback(stop_looking)
    found = runner.addresses[0]
    return str(found[0]), int(found[1])


class EdgeServer(web.Server):
    """Makes connections, counts them, and ends those whose time is over."""

    def __init__(self, application: web.Server, limits: ConnectionLimits) -> None:
        """``application`` is the server of a ``web.AppRunner``, which says how requests are made and answered."""
        super().__init__(application.request_handler, request_factory=application.request_factory)
        self.limits = limits
        self.errors = ClientErrors()
        self._make = self.request_factory
        self.request_factory = self._begin
        self._options = {"access_log": None, "auto_decompress": False, "lingering_time": _LINGER, "tcp_keepalive": False}
        # Dictionaries without values, because they keep the order.
        self._all: dict[Connection, None] = {}
        self._groups: dict[str, dict[Connection, None]] = {}

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return Connection(self, self, loop=asyncio.get_running_loop(), **self._options)

    def admit(self, connection: Connection) -> bool:
        """Whether a new connection may stay. If there are too many, those that have waited longest for their clients give way.

        A connection whose request is being worked on does not count against its address: it ends by itself soon, and
        whoever sends whole requests is no slow client.
        """
        limits, group = self.limits, client_of(connection.address)
        if not lies_in(connection.address, limits.unlimited):
            connection.group = group
            neighbours = self._groups.get(group, {})
            if len(neighbours) >= limits.per_address:
                waiting = [other for other in neighbours if other.waits]
                if len(waiting) >= limits.per_address and not self._make_room(waiting, limits.per_address // 16):
                    return False
        if len(self._all) >= limits.connections and not self._make_room(self._all, limits.connections // 16):
            return False
        self._all[connection] = None
        self._groups.setdefault(connection.group, {})[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        """A connection is over."""
        self._all.pop(connection, None)
        group = self._groups.get(connection.group)
        if group is not None:
            group.pop(connection, None)
            if not group:
                del self._groups[connection.group]

    async def run(self) -> None:
        """Look at all connections again and again, until cancelled."""
        shortest = min(self.limits.head, self.limits.body, self.limits.idle, self.limits.stall)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_LOOK, shortest / 4))
            now = loop.time()
            for connection in list(self._all):
                connection.look(now)
            self.errors.tell()

    def _make_room(self, among: Collection[Connection], number: int) -> bool:
        """End the connections that have waited longest: those without any request first, those that read an answer last.

        Several at once, because a crowd that comes again and again must cost little.
        """
        # In the order in which they came, so that the first that have sent no request have waited longest.
        found = list(islice((other for other in among if not other.served and other.waits), max(1, number)))
        if not found:
            waiting = [other for other in among if other.waits]
            waiting.sort(key=lambda other: (other.writing_paused, other.since))
            found = waiting[: max(1, number)]
        for other in found:
            self.errors.note("GaveWay", other.address)
            self.forget(other)
            other.end()
        return bool(found)

    def _begin(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if isinstance(protocol, Connection):
            protocol.began(payload)
        return self._make(message, payload, protocol, writer, task)
