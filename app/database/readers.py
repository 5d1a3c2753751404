"""Connections that only read, lent for one statement at a time.

asyncpg's pool hands out a session and must reset it afterwards, which is a round trip of its own. Here nobody gets the session:
a caller gives a statement and is given its rows, and the session is read only. So nothing can be left behind in it that a reset
would undo.
"""

import asyncio
from typing import Any, Protocol

import asyncpg

from app.database.errors import not_connected, translated
from app.database.pool import COMMAND_TIMEOUT, CONNECT_TIMEOUT, Prepare, server_settings

_IDLE = 300.0  # seconds after which an unused connection is closed: a firewall may have dropped it

_SETTINGS = {
    "default_transaction_read_only": "on",
    # PostgreSQL cannot know that LIMIT is small, so it would plan a list anew each time, which takes longer than reading it.
    "plan_cache_mode": "force_generic_plan",
    # For the same reason it would sort a whole mailbox instead of walking the service's own index, which is in the list's order.
    # Everything that is read here has an index; if one is missing, PostgreSQL reads the table all the same.
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_bitmapscan": "off",
}


class Source(Protocol):
    """Runs reading statements: a connection, or ``Readers``."""

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """The rows of a statement."""
        ...

    async def fetchrow(self, statement: str, *arguments: object) -> Any:
        """The first row of a statement, or None."""
        ...

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row of a statement, or None."""
        ...


class Readers:
    """At most ``size`` connections, made when they are needed. The database may be away; then ``fetch`` raises
    ``DatabaseUnavailable``.

    ``prepare`` is called for each new connection.
    """

    def __init__(self, dsn: str, *, size: int, application_name: str, prepare: Prepare | None = None) -> None:
        self._dsn = dsn
        self._settings = server_settings(application_name) | _SETTINGS
        self._prepare = prepare
        self._free = asyncio.Semaphore(size)
        self.most, self.used = size, 0
        self._idle: list[tuple[asyncpg.Connection, float]] = []
        self._closed = False

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """The rows of one statement."""
        async with self._free:
            self.used += 1
            try:
                return await self._fetch(statement, arguments)
            finally:
                self.used -= 1

    async def _fetch(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        connection = self._kept() or await self._connect()
        try:
            rows: list[Any] = await connection.fetch(statement, *arguments)
        except asyncpg.PostgresError as error:
            self._keep(connection)  # the server refused the statement; the connection can be used again
            raise translated(error) from error
        except BaseException as error:
            connection.terminate()  # cancelled, timed out or cut: the answer to this statement may come next
            if isinstance(error, Exception):
                raise translated(error) from error
            raise
        self._keep(connection)
        return rows

    async def fetchrow(self, statement: str, *arguments: object) -> Any:
        """The first row of one statement, or None."""
        rows = await self.fetch(statement, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row of one statement, or None."""
        rows = await self.fetch(statement, *arguments)
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Close all connections. Running statements fail."""
        self._closed = True
        while self._idle:
            self._idle.pop()[0].terminate()

    def _kept(self) -> asyncpg.Connection | None:
        """The connection that was used last. The others stay unused, grow old and are closed."""
        oldest = asyncio.get_running_loop().time() - _IDLE
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_closed():
                if since >= oldest:
                    return connection
                connection.terminate()
        return None

    def _keep(self, connection: asyncpg.Connection) -> None:
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            now = asyncio.get_running_loop().time()
            self._idle.append((connection, now))
            if self._idle[0][1] < now - _IDLE:  # it was only needed under higher load
                self._idle.pop(0)[0].terminate()

    async def _connect(self) -> asyncpg.Connection:
        try:
            # asyncpg's own class: one call less for each statement, and ``fetch`` translates.
            connection: asyncpg.Connection = await asyncpg.connect(
                self._dsn, timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT, server_settings=self._settings
            )
            if self._prepare is not None:
                try:
                    await self._prepare(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except Exception as error:
            raise not_connected(error) from error
        return connection
