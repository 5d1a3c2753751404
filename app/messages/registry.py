"""Gives every row of the switch its id, once, and decides in the same transaction whether it is news.

The first reader of a row calls this, the intake or a request. The result is the same for both.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import structlog
from prometheus_client import Histogram

from app.database.pool import Connection, Pool
from app.errors import NotFound, Unavailable
from app.messages import heard
from app.messages import store as records
from app.messages import transfer_store as transfers
from app.messages.baseline import Baseline
from app.messages.model import Message
from app.recordings.storage import RecordingStorage
from app.switch.tables import messages as store
from app.switch.tables.model import MessageRow, readable

log = structlog.get_logger(__name__)

# Called in the transaction that records the messages: what it writes comes to be with them, or not at all.
Announce: TypeAlias = Callable[[Connection, Sequence[Message]], Awaitable[None]]

BATCH = 500  # rows a transaction
_SECONDS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1800.0, 7200.0)


class Registry:
    """Records rows as messages.

    Rows that were there when the service first started are never news, whatever their dates (``Baseline``). ``max_age`` (seconds)
    is for outages: a row that nothing shows to be younger is no news either. What shows it is its date, its file's time, or
    that its ``leave-message`` event was heard, or that this service moved, copied or forwarded it there; one of them is enough,
    because any clock may be wrong.
    """

    def __init__(self, pool: Pool, switch_pool: Pool, storage: RecordingStorage, announce: Announce, *, max_age: int) -> None:
        self._pool = pool
        self._switch_pool = switch_pool
        self._storage, self._paths = storage, storage.paths
        self._announce = announce
        self._max_age = max_age
        self._baseline = Baseline(pool, switch_pool)
        self.lag = Histogram(
            "voicemail_intake_lag_seconds",
            "Seconds from the date of a new row of voicemail_msgs, which is to the second, until the message was recorded",
            buckets=_SECONDS,
            registry=None,
        )

    async def begin(self) -> None:
        """Take the baseline; only the first call ever does it. Raises ``Unavailable`` without the table."""
        await self._baseline.take()

    async def finish_baseline(self) -> None:
        """Note that the whole baseline is recorded."""
        await self._baseline.finish()

    async def record(self, rows: Sequence[MessageRow]) -> list[Message]:
        """Record the rows that are not recorded yet; returns the new messages, oldest first."""
        await self.begin()
        new: list[Message] = []
        for start in range(0, len(rows), BATCH):
            new += await self._record_batch(rows[start : start + BATCH])
        return new

    async def _record_batch(self, rows: Sequence[MessageRow]) -> list[Message]:
        async with self._switch_pool.acquire() as connection:
            now = await store.clock(connection)
            # Rows that share a uuid get their ids together, so the ids do not depend on which row was seen first.
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
        for message in news:
            self.lag.observe(min(max(time.time() - message.created_epoch, 0.0), self._max_age))  # any clock may be wrong
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
        keys = {message.id: message.row.key for message in new if not message.flagged_deleted}
        old = await self._baseline.among(connection, list(keys.values())) if keys else set()
        came = [message for message in new if message.id in keys and keys[message.id] not in old]
        doubtful = {message.file_path for message in came if message.created_epoch < now - self._max_age}
        if doubtful:
            doubtful -= await heard.among(connection, [readable(file_path) for file_path in doubtful])
            doubtful -= await transfers.among(connection, sorted(doubtful))
            doubtful -= await asyncio.to_thread(self._fresh, doubtful)
        return [message for message in came if message.created_epoch >= now - self._max_age or message.file_path not in doubtful]

    def _fresh(self, file_paths: Iterable[str]) -> set[str]:
        """Those of the recordings that were written to within ``max_age``, by the clocks of this host and of its disk."""
        since = time.time() - self._max_age
        fresh = set()
        for file_path in file_paths:
            try:
                if self._storage.stat(self._storage.key(file_path)).mtime_ns / 1e9 >= since:
                    fresh.add(file_path)
            except (NotFound, Unavailable):
                continue
        return fresh
