"""The messages in the switch's table at the first start of the service. They are listed, and never mailed.

Dates are no evidence of that: the switch's clock may be wrong, and a row may carry any date. So the first act of all is to copy
the keys of every row into ``voicemail.baseline``, from one snapshot (a REPEATABLE READ transaction on the switch's database, read
through a cursor, so a million rows need little memory) and in one transaction of our own: either the whole baseline is there, or
nothing of it. What the snapshot shows is old, and every other row came later. The keys hold in any database, after a dump and a
restore, and after the transaction ids have wrapped around.

A ``kill -9`` in those first seconds leaves no baseline, and a later snapshot would take what arrived meanwhile for old. The
snapshot itself is therefore noted before (``txid_current_snapshot``, one small row), and the next attempt leaves out the rows
whose inserting transaction that snapshot does not show. A row's ``xmin`` also changes when a phone marks the message, so a row
that was read, saved or flagged counts as old then. ``xmin`` is never asked in any other case.
"""

from collections.abc import AsyncIterator, Sequence

import structlog

from app.database.pool import Connection, Pool
from app.messages import store as records
from app.switch.tables import messages as store
from app.switch.tables.model import MessageRow

log = structlog.get_logger(__name__)

FIRST_SNAPSHOT = "first_snapshot"
TAKEN = "baseline_taken_at"
DONE = "baseline_done_at"
_LOCK = 0x766F6963656D04  # "voicem", 4: only one process at a time takes the baseline
_BATCH = 5000  # rows a time
_REST: tuple[str, str, int, int, int, str] = ("", "", 0, 0, 0, "")  # the columns that are not part of a row's key

SNAPSHOT = "SELECT txid_current_snapshot()::text, floor(extract(epoch FROM clock_timestamp()))::bigint"
_TEXTS = "coalesce(r.domain, ''), coalesce(r.username, ''), coalesce(r.uuid, ''), coalesce(r.file_path, '')"
ALL = f"SELECT {_TEXTS} FROM voicemail_msgs r"  # noqa: S608 - constants of this module
# The columns are 32-bit transaction ids; the largest 64-bit id below the next one that ends in the same 32 bits is meant.
BEFORE_SNAPSHOT = f"""
SELECT {_TEXTS}
FROM voicemail_msgs r, (SELECT txid_snapshot_xmax(txid_current_snapshot()) - 1) AS newest (id)
WHERE coalesce(r.read_epoch, 0) <> 0 OR coalesce(r.flags, '') <> ''
   OR txid_visible_in_snapshot(newest.id - ((newest.id - r.xmin::text::bigint) & 4294967295), $1::text::txid_snapshot)
"""  # noqa: S608 - constants of this module
ADD = "INSERT INTO voicemail.baseline (row_key) SELECT unnest($1::bytea[]) ON CONFLICT DO NOTHING"
AMONG = "SELECT row_key FROM voicemail.baseline WHERE row_key = ANY($1::bytea[])"
LOCK = "SELECT pg_advisory_xact_lock($1)"
FORGET = "DELETE FROM voicemail.baseline"


class Baseline:
    """One process's view of the baseline. Any number of processes may take it at once: one does, the others wait."""

    def __init__(self, pool: Pool, switch_pool: Pool) -> None:
        self._pool = pool
        self._switch_pool = switch_pool
        self._taken = False  # it never becomes false again; the same is true for the next field
        self._done = False

    async def take(self) -> None:
        """Take the baseline, once for each installation. Raises ``Unavailable`` without the table."""
        if self._taken:
            return
        async with self._pool.acquire() as own:
            if await records.fact(own, TAKEN) is None:
                async with self._switch_pool.acquire() as there, there.transaction(isolation="repeatable_read", readonly=True):
                    await self._take(own, there)
        self._taken = True

    async def _take(self, own: Connection, there: Connection) -> None:
        snapshot, now = await there.fetchrow(SNAPSHOT)
        await records.put_fact(own, FIRST_SNAPSHOT, snapshot)
        first = await records.fact(own, FIRST_SNAPSHOT)
        count = 0
        async with own.transaction():
            await own.execute(LOCK, _LOCK)
            if await records.fact(own, TAKEN) is not None:
                return
            async for keys in _keys(there, None if first == snapshot else first):
                await own.execute(ADD, keys)
                count += len(keys)
            await records.put_fact(own, TAKEN, str(now))
        log.info("baseline_taken", messages=count)

    async def among(self, connection: Connection, keys: Sequence[bytes]) -> set[bytes]:
        """The keys in the list that belong to the baseline; none after the whole baseline is recorded."""
        if self._done:
            return set()
        found = {record[0] for record in await connection.fetch(AMONG, keys)}
        # This query comes last: the process that finishes the baseline empties the table in the same transaction.
        self._done = await records.fact(connection, DONE) is not None
        return found

    async def finish(self) -> None:
        """Note that the whole baseline is recorded."""
        if self._done:
            return
        async with self._switch_pool.acquire() as connection:
            now = await store.clock(connection)
        async with self._pool.acquire() as connection, connection.transaction():
            await records.put_fact(connection, DONE, str(now))
            await connection.execute(FORGET)
        self._done = True


async def _keys(there: Connection, first: str | None) -> AsyncIterator[list[bytes]]:
    """The keys of all rows; of those that the ``first`` snapshot shows, if one was noted before."""
    with store.reading_table():
        cursor = await (there.open_cursor(ALL) if first is None else there.open_cursor(BEFORE_SNAPSHOT, first))
        while found := await cursor.fetch(_BATCH):
            yield [MessageRow(domain, username, uuid, path, *_REST).key for domain, username, uuid, path in found]
