"""Connections to PostgreSQL. Errors are ``DatabaseUnavailable`` or ``DatabaseRefused``, never asyncpg's own."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg
from asyncpg.cursor import Cursor, CursorFactory
from asyncpg.transaction import Transaction

from app.database.errors import not_connected, translated
from app.errors import DatabaseFailed

CONNECT_TIMEOUT = 10.0  # seconds
_CLOSE = 1.5  # seconds
COMMAND_TIMEOUT = 30.0  # seconds; without it, callers of a stalled server would wait for ever


class _OurTransaction(Transaction):  # type: ignore[misc]
    """A transaction whose own statements raise this service's errors. An exception of its block passes unchanged."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        try:
            await super().__aenter__()
        except Exception as error:
            raise translated(error) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, raised, trace)
        except Exception as error:
            raise translated(error) from error


class _OurCursor:
    """A cursor in the rows of a statement."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    async def fetch(self, most: int) -> list[Any]:
        """The next rows, at most so many."""
        try:
            rows: list[Any] = await self._cursor.fetch(most)
        except Exception as error:
            raise translated(error) from error
        return rows


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """A session with the server."""

    __slots__ = ()

    # asyncpg ships no types: for mypy the rows are ``Any``.
    async def fetch(self, query: str, *args: object, **options: Any) -> list[Any]:
        """The rows of a statement."""
        try:
            rows: list[Any] = await super().fetch(query, *args, **options)
        except Exception as error:
            raise translated(error) from error
        return rows

    async def fetchrow(self, query: str, *args: object, **options: Any) -> Any:
        """The first row of a statement, or None."""
        try:
            return await super().fetchrow(query, *args, **options)
        except Exception as error:
            raise translated(error) from error

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        """The first column of the first row of a statement, or None."""
        try:
            return await super().fetchval(query, *args, **options)
        except Exception as error:
            raise translated(error) from error

    async def execute(self, query: str, *args: object, **options: Any) -> str:
        """Run a statement; returns its command tag, such as ``INSERT 0 1``."""
        try:
            status: str = await super().execute(query, *args, **options)
        except Exception as error:
            raise translated(error) from error
        return status

    async def executemany(self, command: str, args: Any, **options: Any) -> None:
        """Run a statement once for each row of arguments."""
        try:
            await super().executemany(command, args, **options)
        except Exception as error:
            raise translated(error) from error

    async def add_listener(self, channel: str, callback: Callable[..., object]) -> None:
        """LISTEN."""
        try:
            await super().add_listener(channel, callback)
        except Exception as error:
            raise translated(error) from error

    async def open_cursor(self, query: str, *args: object) -> _OurCursor:
        """A cursor in the rows of a statement, for as long as the transaction around it."""
        try:
            cursor: CursorFactory = super().cursor(query, *args)
            return _OurCursor(await cursor)
        except Exception as error:
            raise translated(error) from error

    def transaction(self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        """A transaction, or a savepoint in one, for an ``async with`` block."""
        return _OurTransaction(self, isolation, readonly, deferrable)

    def itself(self) -> "Connection":
        """The real session behind asyncpg's pool proxy, because the proxy raises errors of its own."""
        return self


Prepare: TypeAlias = Callable[[Connection], Awaitable[None]]


class _Lent:
    """A connection of a pool for an ``async with`` block. An exception of the block passes unchanged."""

    __slots__ = ("_lent", "_pool")

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Connection:
        try:
            self._lent = await self._pool.acquire()
            connection: Connection = self._lent.itself()
        except Exception as error:
            raise not_connected(error) from error
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._pool.release(self._lent)
        except Exception as error:
            raise translated(error) from error


class Pool:
    """A pool of connections. A connection is opened when needed, and lent for one block or one statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @property
    def most(self) -> int:
        """How many connections it may have."""
        size: int = self._pool.get_max_size()
        return size

    @property
    def used(self) -> int:
        """How many connections are lent now."""
        used: int = self._pool.get_size() - self._pool.get_idle_size()
        return used

    def acquire(self) -> _Lent:
        """``async with pool.acquire() as connection``: a connection for the block."""
        return _Lent(self._pool)

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """The rows of one statement."""
        async with self.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: object) -> Any:
        """The first row of one statement, or None."""
        async with self.acquire() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row of one statement, or None."""
        async with self.acquire() as connection:
            return await connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run one statement; returns its command tag."""
        async with self.acquire() as connection:
            return await connection.execute(statement, *arguments)

    async def close(self) -> None:
        """Close every connection after it was released."""
        try:
            await self._pool.close()
        except Exception as error:
            raise translated(error) from error

    def terminate(self) -> None:
        """Close every connection now."""
        self._pool.terminate()


async def open_pool(
    dsn: str, *, size: int = 10, application_name: str, prepare: Prepare | None = None, reset: Prepare | None = None
) -> Pool:
    """A pool of at most ``size`` connections, opened when needed. If the database is away, each use raises.

    ``prepare`` is called for each new connection; ``reset`` for each that was given back, in place of asyncpg's own reset.
    """
    return Pool(
        await asyncpg.create_pool(
            dsn,
            # No minimum size: a pool with one fills the log with tracebacks for as long as the database is away.
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=300.0,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            server_settings=server_settings(application_name),
            connection_class=Connection,
            init=prepare,
            reset=reset,
        )
    )


async def keep_session(_connection: Connection) -> None:
    """A ``reset`` for a pool whose users leave no state in a session. It saves one round trip for each use.

    A transaction that was left open is rolled back all the same. Such users take advisory locks only for a transaction, or
    give them back themselves; they neither SET nor LISTEN.
    """


async def close_pool(pool: Pool) -> None:
    """Close a pool; running users get a short time to finish."""
    try:
        async with asyncio.timeout(_CLOSE):
            await pool.close()
    except (TimeoutError, DatabaseFailed):
        pool.terminate()


async def connect(dsn: str, *, application_name: str, command_timeout: float | None = COMMAND_TIMEOUT) -> Connection:
    """A connection outside the pool, for advisory locks and LISTEN, which last as long as their connection.

    Raises ``DatabaseUnavailable``.
    """
    try:
        connection: Connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=command_timeout,
            server_settings=server_settings(application_name),
            connection_class=Connection,
        )
    except Exception as error:
        raise not_connected(error) from error
    return connection


def server_settings(application_name: str) -> dict[str, str]:
    """The server settings for every session of this service."""
    return {
        "application_name": f"voicemail {application_name}",
        "timezone": "UTC",
        "jit": "off",  # JIT compilation takes longer than any statement of this service
        # The server notices a vanished host within half a minute, and then frees its locks.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "4",
    }
