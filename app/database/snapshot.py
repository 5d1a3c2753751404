"""Whether anything at all was committed since: PostgreSQL's own snapshot, asked once for all who wait.

Two snapshots of one server that read the same see the same: no transaction began, ended or committed in between, in any of its
databases (PostgreSQL manual, 9.27 "Transaction ID and Snapshot Information Functions").
"""

import asyncio
from collections.abc import Sequence

import asyncpg

from app.database.pool import UNAVAILABLE, Connection, connect

# A standby's snapshot does not list what runs on the primary, so two of them may read the same and differ.
_SNAPSHOT = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END"
_STATEMENT = 5.0  # seconds


class Snapshots:
    """The snapshot of one server or more, as one text."""

    def __init__(self, dsns: Sequence[str]) -> None:
        self._servers = [_Server(dsn) for dsn in dict.fromkeys(dsns)]
        self._next: asyncio.Future[str | None] | None = None
        self._turn = asyncio.Lock()

    async def current(self) -> str | None:
        """The snapshot at a moment after this was called; None where there is none to be had."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Disconnect."""
        for server in self._servers:
            server.drop()

    async def _ask(self) -> str | None:
        async with self._turn:
            self._next = None  # who comes now may have seen a commit that this question is too early for
            found = [await server.ask() for server in self._servers]
        return None if None in found else " ".join(text for text in found if text is not None)


class _Server:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._connections = 0

    async def ask(self) -> str | None:
        """The server's snapshot and which connection it was asked over; None while the server is away, or a standby."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, application_name="snapshot", command_timeout=_STATEMENT)
                self._connections += 1
            snapshot: str | None = await self._connection.fetchval(_SNAPSHOT)
        except (*UNAVAILABLE, asyncpg.PostgresError):
            self.drop()
            return None
        # A server that was restored from a backup counts its transactions from there: nothing is compared across connections.
        return None if snapshot is None else f"{self._connections}/{snapshot}"

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
