"""Translates asyncpg's errors into this service's own. No other module catches asyncpg's errors."""

import asyncpg

from app.errors import (
    ConstraintViolated,
    DatabaseRefused,
    DatabaseUnavailable,
    MissingColumn,
    MissingRight,
    MissingTable,
    UnfitValue,
    UniqueViolated,
    VoicemailError,
)

# A statement that fails with one of these may work later. ``OSError`` and ``TimeoutError`` come up as they are; asyncpg's
# ``InterfaceError`` and ``InternalClientError`` say that a connection ended under the statement.
_AWAY: tuple[type[Exception], ...] = (
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
# asyncpg's errors that mean a bug of this program: ``ValueError`` are wrong settings and values that asyncpg cannot send.
_AS_THEY_ARE = (VoicemailError, ValueError, asyncpg.UnsupportedClientFeatureError, asyncpg.UnsupportedServerFeatureError)

_BY_STATE: dict[str, type[DatabaseRefused]] = {
    "42P01": MissingTable,
    "3F000": MissingTable,  # its schema is missing
    "42703": MissingColumn,
    "42501": MissingRight,
    "23505": UniqueViolated,
}
_BY_CLASS: dict[str, type[DatabaseRefused]] = {"22": UnfitValue, "23": ConstraintViolated}
_NAMES_ONLY = (MissingTable, MissingColumn, MissingRight)  # the server's message names tables and columns, and quotes no value


def translated(error: Exception) -> Exception:
    """Translate an error of a statement or of connecting. An unknown error is returned as it is."""
    if isinstance(error, _AS_THEY_ARE):
        return error
    if isinstance(error, _AWAY):
        return DatabaseUnavailable("the database does not answer; try again later", reason=_text(error))
    if isinstance(error, asyncpg.PostgresError):
        return _refused(error)
    return error


def not_connected(error: Exception) -> Exception:
    """Translate an error of connecting. A refused role or password counts as unavailable, because it may be corrected."""
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _AWAY):
        return DatabaseUnavailable("the database refused the connection; try again later", reason=_text(error))
    return translated(error)


def _refused(error: asyncpg.PostgresError) -> DatabaseRefused:
    state = error.sqlstate or ""
    kind = _BY_STATE.get(state) or _BY_CLASS.get(state[:2], DatabaseRefused)
    what = _text(error) if kind in _NAMES_ONLY else type(error).__name__
    return kind(f"the database refused a statement: {what}", sqlstate=state, constraint_name=error.constraint_name)


def _text(error: Exception) -> str:
    text = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else str(error)
    return str(text) or type(error).__name__
