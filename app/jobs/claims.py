"""One process at a time works on a thing: advisory locks, all on one connection that is held open."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from app.database.pool import Connection, connect
from app.errors import DatabaseRefused, DatabaseUnavailable

_STATEMENT = 10.0  # seconds
_LOCK = "SELECT pg_try_advisory_lock($1)"
_UNLOCK = "SELECT pg_advisory_unlock($1)"
_LOCK_MANY = "SELECT key, pg_try_advisory_lock(key) FROM unnest($1::bigint[]) AS k (key)"
_UNLOCK_MANY = "SELECT key, pg_advisory_unlock(key) FROM unnest($1::bigint[]) AS k (key)"


class Claims:
    """The things, each by its id, that this process works on.

    The locks go with the connection, so those of a process that dies are free at once. If the database goes away, they are
    gone while the work goes on: until the lease of the attempt ends, nobody else begins.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._held: set[UUID] = set()
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()  # a connection does one statement at a time

    @asynccontextmanager
    async def hold(self, owner: UUID) -> AsyncIterator[bool]:
        """Lock the thing with this id for the block; False if this or another process works on it.

        Raises ``DatabaseUnavailable``.
        """
        if owner in self._held:
            yield False
            return
        self._held.add(owner)
        key = int.from_bytes(owner.bytes[:8], signed=True)
        try:
            ours = await self._lock(key)
            try:
                yield ours
            finally:
                if ours:
                    await self._unlock(key)
        finally:
            self._held.discard(owner)

    @asynccontextmanager
    async def hold_many(self, owners: Collection[UUID]) -> AsyncIterator[set[UUID]]:
        """Lock those of the things that nobody works on, for the block; not more than some hundred: the server counts locks."""
        free = set(owners) - self._held
        self._held |= free
        keys = {int.from_bytes(owner.bytes[:8], signed=True): owner for owner in free}
        try:
            ours = await self._each(_LOCK_MANY, list(keys))
            try:
                yield {keys[key] for key in ours}
            finally:
                await self._each(_UNLOCK_MANY, ours)
        finally:
            self._held -= free

    async def close(self) -> None:
        """Give back every lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _lock(self, key: int) -> bool:
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, application_name="claims", command_timeout=_STATEMENT)
            try:
                return bool(await self._connection.fetchval(_LOCK, key))
            except BaseException:
                self._drop()  # whether the lock was taken is not known
                raise

    async def _unlock(self, key: int) -> None:
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                return  # the lock went with its connection
            try:
                with suppress(DatabaseRefused):
                    await self._connection.fetchval(_UNLOCK, key)
            except DatabaseUnavailable:
                self._drop()

    async def _each(self, statement: str, keys: list[int]) -> list[int]:
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                if statement == _UNLOCK_MANY:
                    return []  # the locks went with their connection
                self._connection = await connect(self._dsn, application_name="claims", command_timeout=_STATEMENT)
            try:
                return [row[0] for row in await self._connection.fetch(statement, keys) if row[1]]
            except BaseException:
                self._drop()  # which locks were taken is not known
                raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
