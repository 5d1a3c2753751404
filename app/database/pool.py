"""Connections to PostgreSQL, and which exceptions mean that it is away."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg

# asyncpg ships no types: for mypy these are ``Any``, for a reader they say what is wanted.
Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = asyncpg.Connection
Prepare: TypeAlias = Callable[[Connection], Awaitable[None]]

CONNECT_TIMEOUT = 10.0  # seconds
_CLOSE = 1.5  # seconds
COMMAND_TIMEOUT = 30.0  # seconds; without it a server that stalls holds its callers for ever

# A statement that fails with one of these may work later. ``OSError`` and ``TimeoutError`` come up as they are; asyncpg's
# ``InterfaceError`` and ``InternalClientError`` say that a connection ended under the statement.
UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
)


_MISTAKES = (ValueError, asyncpg.UnsupportedClientFeatureError, asyncpg.UnsupportedServerFeatureError)
_NETWORK = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EPIPE, errno.EMFILE, errno.ENFILE}


def is_unavailable(error: BaseException) -> bool:
    """Whether an exception of unknown origin means that the database is away: narrower than ``except UNAVAILABLE``.

    A missing file is an ``OSError`` too, and a wrong DSN an ``InterfaceError``.
    """
    if isinstance(error, _MISTAKES) or not isinstance(error, UNAVAILABLE):
        return False
    if isinstance(error, OSError):
        return isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or error.errno in _NETWORK
    return True


async def open_pool(
    dsn: str, *, size: int = 10, application_name: str, prepare: Prepare | None = None, reset: Prepare | None = None
) -> Pool:
    """A pool of at most ``size`` connections, made when they are needed. The database may be away; then its users raise.

    ``prepare`` is called for each new connection; ``reset`` for each that was given back, in place of asyncpg's own reset.
    """
    return await asyncpg.create_pool(
        dsn,
        # No floor: a pool with one fills the log with tracebacks for as long as the database is away.
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300.0,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=server_settings(application_name),
        init=prepare,
        reset=reset,
    )


async def keep_session(_connection: Connection) -> None:
    """A ``reset`` for a pool whose users leave nothing behind in a session: spares a round trip a use.

    A transaction that was left open is rolled back all the same. Such users take advisory locks only for a transaction, or
    give them back themselves; they neither SET nor LISTEN.
    """


async def close_pool(pool: Pool) -> None:
    """Close a pool; what still uses a connection is given a moment."""
    try:
        async with asyncio.timeout(_CLOSE):
            await pool.close()
    except UNAVAILABLE:
        pool.terminate()


async def connect(dsn: str, *, application_name: str, command_timeout: float = COMMAND_TIMEOUT) -> Connection:
    """One connection of one's own, for what lives as long as a connection: advisory locks and LISTEN."""
    return await asyncpg.connect(
        dsn, timeout=CONNECT_TIMEOUT, command_timeout=command_timeout, server_settings=server_settings(application_name)
    )


def server_settings(application_name: str) -> dict[str, str]:
    """What every session of this service asks of the server."""
    return {
        "application_name": f"voicemail {application_name}",
        "timezone": "UTC",
        "jit": "off",  # its compiling costs more than any statement of this service
        # A host that vanished without a word is noticed within half a minute, and its locks are free again.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "4",
    }
