"""Gives every row of the switch its id, once, and decides in the same transaction whether it is news.

Whoever meets a row first calls this, the intake or a request that lists it, so the outcome does not depend on who that was.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

from app.database.pool import Connection, Pool
from app.messages import records, store
from app.messages.model import Message, MessageRow
from app.recordings.paths import RecordingPaths

log = structlog.get_logger(__name__)

# Called in the transaction that records the messages: what it writes comes to be with them, or not at all.
Announce: TypeAlias = Callable[[Connection, Sequence[Message]], Awaitable[None]]

FIRST_STARTED = "first_started_at"
BASELINE_DONE = "baseline_done_at"
BATCH = 500  # rows a transaction


class Recorder:
    """Records rows as messages.

    Rows that were there before the service first started on this switch are never news: until one complete look at the table
    was finished (``finish_baseline``), a row older than that start is recorded silently. ``max_age`` (seconds) is for outages:
    a row first seen later than that after it was created is no news either.
    """

    def __init__(self, pool: Pool, switch_pool: Pool, paths: RecordingPaths, announce: Announce, *, max_age: int) -> None:
        self._pool = pool
        self._switch_pool = switch_pool
        self._paths = paths
        self._announce = announce
        self._max_age = max_age
        self._first_started: int | None = None  # never changes, so once is often enough to read it
        self._baseline_done = False  # never becomes false again

    async def begin(self) -> int:
        """When the service first started on this switch, by the switch's database; noted at the first call ever."""
        if self._first_started is None:
            async with self._switch_pool.acquire() as connection:
                now = await store.clock(connection)
            async with self._pool.acquire() as connection:
                await records.put_fact(connection, FIRST_STARTED, str(now))
                self._first_started = int(await records.fact(connection, FIRST_STARTED) or now)
        return self._first_started

    async def finish_baseline(self) -> None:
        """Say that everything which was there at the first start is recorded by now."""
        if not self._baseline_done:
            async with self._switch_pool.acquire() as connection:
                now = await store.clock(connection)
            async with self._pool.acquire() as connection:
                await records.put_fact(connection, BASELINE_DONE, str(now))
            self._baseline_done = True

    async def record(self, rows: Sequence[MessageRow]) -> list[Message]:
        """Record those of the rows that are not yet; returns the new messages, oldest first."""
        await self.begin()
        new: list[Message] = []
        for start in range(0, len(rows), BATCH):
            new += await self._record_batch(rows[start : start + BATCH])
        return new

    async def _record_batch(self, rows: Sequence[MessageRow]) -> list[Message]:
        async with self._switch_pool.acquire() as connection:
            now = await store.clock(connection)
            # Rows that share a uuid are given their ids together, so that these do not depend on which was met first.
            uuids = {row.uuid for row in rows if row.own_id}
            family = {*rows, *(await store.with_uuids(connection, sorted(uuids)))} if uuids else set(rows)
        in_order = sorted(family, key=lambda row: (row.created_epoch, row.file_path, row.key))
        async with self._pool.acquire() as connection, connection.transaction():
            await records.lock(connection)
            new = await self._name(connection, in_order)
            await records.put(connection, [(message, self._paths.relative(message.file_path)) for message in new])
            news = await self._news(connection, new, now)
            if news:
                await self._announce(connection, news)
        if new:
            log.info("messages_recorded", count=len(new), announced=len(news))
        return new

    async def _name(self, connection: Connection, rows: Sequence[MessageRow]) -> list[Message]:
        by_key = {row.key: row for row in rows}
        for key in await records.seen(connection, list(by_key)):
            del by_key[key]
        taken = await records.taken(connection, [id_ for row in by_key.values() if (id_ := row.own_id)])
        new = []
        for row in by_key.values():
            id_ = row.own_id
            if id_ is None or id_ in taken:
                id_ = row.further_id
            taken.add(id_)
            new.append(Message(id_, row))
        return new

    async def _news(self, connection: Connection, new: Sequence[Message], now: int) -> list[Message]:
        if not self._baseline_done:
            self._baseline_done = await records.fact(connection, BASELINE_DONE) is not None
        oldest = now - self._max_age
        if not self._baseline_done:
            oldest = max(oldest, await self.begin())
        return [message for message in new if message.created_epoch >= oldest and not message.flagged_deleted]
