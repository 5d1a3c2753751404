"""Empties the trash: messages whose time is over go for good, and so do recordings in its folder that no message has."""

import asyncio
import time

import structlog

from app.database.pool import Pool
from app.errors import NotFound
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.messages import trash_store as store
from app.messages.trash import Trash
from app.recordings.trash import TrashFolder

log = structlog.get_logger(__name__)

_EVERY = 600.0  # seconds
_BATCH = 200
_STRAY = 3600.0  # seconds after which nobody puts a recording there for a row that is still to come
_RETRIES = Retries(first=30.0, longest=_EVERY)


class TrashPurge:
    """Runs in the process that leads."""

    def __init__(self, pool: Pool, trash: Trash, folder: TrashFolder, *, days: int, stray: float = _STRAY) -> None:
        self._pool, self._trash, self._folder = pool, trash, folder
        self._days, self._stray = days, stray

    async def run(self) -> None:
        """Look now and then until cancelled."""
        await Loop("trash", self.step, every=_EVERY, retries=_RETRIES).run()

    async def step(self) -> None:
        """Finish what was being restored, remove what is over, and clear the folder. Raises ``Unavailable``."""
        await self._trash.go_on()
        count = size = 0
        while True:
            async with self._pool.acquire() as connection:
                expired = await store.expired(connection, self._days, _BATCH)
            for message_id in expired:
                try:
                    size += (await self._trash.purge(message_id, []))[1]
                    count += 1
                except NotFound:
                    continue  # it was restored
            if len(expired) < _BATCH:
                break
        strays = await self._clear()
        if count or strays:
            log.info("trash_emptied", messages=count, bytes=size, recordings_without_message=strays)

    async def _clear(self) -> int:
        """Remove the recordings that no message has: a process died between two steps."""
        names = await asyncio.to_thread(self._folder.older_than, time.time() - self._stray)
        async with self._pool.acquire() as connection:
            strays = set(names) - await store.named(connection, names)
        for name in strays:
            await asyncio.to_thread(self._folder.remove, name)
        return len(strays)
