"""Rows about readings, written before the answer. Readings that come at once share a statement and its commit."""

import asyncio

from app.access.audit import store
from app.access.audit.model import AuditEntry
from app.database.pool import Pool


class Readings:
    """Writes the rows of callers that are about to be given a PIN or a recording."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[AuditEntry] = []
        self._next: asyncio.Task[None] | None = None  # writes what waits
        self._turn = asyncio.Lock()

    async def note(self, *entries: AuditEntry) -> None:
        """Return once the rows are committed. A caller that is cancelled meanwhile leaves its rows all the same.

        Raises ``DatabaseFailed``: then nothing may be answered.
        """
        self._waiting += entries
        if self._next is None:
            self._next = asyncio.ensure_future(self._write())
            self._next.add_done_callback(_seen)
        await asyncio.shield(self._next)

    async def _write(self) -> None:
        async with self._turn:  # while one statement is under way, the rows of the next one gather
            entries, self._waiting, self._next = self._waiting, [], None
            await store.insert(self._pool, entries)


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # every caller that still waits raises it
