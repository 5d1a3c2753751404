"""Finds orphans: complete recordings that no row of the switch names, so nobody is notified of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog

from app.access.audit.model import Action, AuditEntry, Result
from app.access.grant import Grant
from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.messages import removal_store as removals
from app.messages.lost import LeftMessage, left_file, mailbox_of
from app.messages.rescue import Rescue
from app.recordings import files
from app.recordings.model import FoundFile, fits_index
from app.recordings.storage import RecordingStorage
from app.switch.tables import messages as store

log = structlog.get_logger(__name__)

OLDER_THAN = 600.0  # seconds since the file was written to; until then its call, or its row, may still be on the way
EVERY = 600.0
_SLICE = 2000  # files a statement
_MOST_TOLD = 10_000

REMEMBERED = """
SELECT recording, file_path, uuid, created_epoch FROM voicemail.message
WHERE recording = ANY($1::text[]) ORDER BY seen_at DESC
"""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A recording without a row."""

    path: str  # below the recordings folder
    file_path: str  # as the switch would write it
    size: int  # bytes
    modified: int  # seconds since 1970
    address: MailboxAddress | None  # None: the path names no mailbox
    uuid: str = ""  # of the row that it had once; "": this service saw none
    created_epoch: int = 0  # likewise


class Orphans:
    """Finds orphans. One process at a time reports them: once in its log, and in ``count``."""

    def __init__(
        self, pool: Pool | None, switch_pool: Pool, storage: RecordingStorage, rescue: Rescue | None, *, every: float = EVERY
    ) -> None:
        """Without ``pool`` earlier rows are not known; without ``rescue`` nothing can be delivered."""
        self._pool, self._switch_pool = pool, switch_pool
        self._storage, self._paths, self._rescue, self._every = storage, storage.paths, rescue, every
        self._told: set[str] = set()
        self.count = 0

    async def run(self) -> None:
        """Look for them now and then until cancelled."""
        retries = Retries(first=self._every / 10, longest=self._every)  # a look reads the whole folder
        await Loop("orphans", self._step, every=self._every, retries=retries).run()

    async def _step(self) -> None:
        await self.look()

    async def look(self) -> int:
        """Count the orphans, and log those that were not logged before."""
        found = [orphan.path async for orphan in self.find()]
        self.count = len(found)
        self._told &= set(found)
        new = [path for path in found if path not in self._told]
        if new:
            log.warning("recordings_without_row", count=len(found), new=len(new), first=new[0])
            self._told.update(new[: max(0, _MOST_TOLD - len(self._told))])
        return self.count

    async def find(self, *, older_than: float = OLDER_THAN) -> AsyncIterator[Orphan]:
        """Every recording that is older than so many seconds, holds something, and has no row. Raises ``Unavailable``."""
        await asyncio.to_thread(files.folder_identity, self._paths.root)
        walk = files.walk(self._storage, "", lambda _path, _reason: None)
        while found := await asyncio.to_thread(lambda: list(islice(walk, _SLICE))):
            before = time.time() - older_than
            old = [file for file in found if file.size and file.mtime_ns / 1e9 <= before and fits_index(file.path)]
            for orphan in await self._without_row(old):
                yield orphan

    async def deliver(self, grant: Grant, orphans: Sequence[Orphan]) -> list[str]:
        """Insert their rows; the paths of those for which that was done. The audit has each before."""
        left: list[LeftMessage] = [
            left_file(orphan.file_path, orphan.address, created_epoch=orphan.created_epoch or orphan.modified, uuid=orphan.uuid)
            for orphan in orphans
            if orphan.address is not None
        ]
        audited = [
            AuditEntry.of(grant, Action.MESSAGE_DELIVER, mailbox=orphan.address, target=orphan.path, result=Result.ALLOWED)
            for orphan in orphans
            if orphan.address is not None
        ]
        done = set(await self._rescue.deliver(left, audited)) if left and self._rescue else set()
        return [orphan.path for orphan in orphans if orphan.file_path in done]

    async def _without_row(self, found: Sequence[FoundFile]) -> list[Orphan]:
        """Those of the files that no row names, under any of the names that the switch has for them."""
        names = {file.path: self._paths.on_switch(file.path) for file in found}
        named = await self._named(list(names.values())) if names else set()
        rest = [file for file in found if names[file.path] not in named]
        removed = await self._removed([file.path for file in rest])
        rest = [file for file in rest if file.path not in removed]
        if not rest:
            return []
        remembered = await self._remembered([file.path for file in rest])
        names |= {path: record[0] for path, record in remembered.items()}
        named = await self._named([names[file.path] for file in rest])
        return [
            Orphan(
                path=file.path,
                file_path=names[file.path],
                size=file.size,
                modified=file.mtime_ns // 10**9,
                address=mailbox_of(names[file.path], self._paths),
                uuid=remembered[file.path][1] if file.path in remembered else "",
                created_epoch=remembered[file.path][2] if file.path in remembered else 0,
            )
            for file in rest
            if names[file.path] not in named
        ]

    async def _named(self, file_paths: list[str]) -> set[str]:
        async with self._switch_pool.acquire() as connection:
            return {row.file_path for row in await store.with_files(connection, file_paths)}

    async def _removed(self, paths: list[str]) -> set[str]:
        """The files whose rows this service deleted. The removal deletes the file next, or notes why not."""
        if self._pool is None or not paths:
            return set()
        async with self._pool.acquire() as connection:
            return await removals.removed(connection, paths)

    async def _remembered(self, paths: list[str]) -> dict[str, tuple[str, str, int]]:
        """Of recordings whose rows this service once saw: the path, uuid and date that the row had."""
        if self._pool is None:
            return {}
        async with self._pool.acquire() as connection:
            records = await connection.fetch(REMEMBERED, paths)
        return {recording: (file_path, uuid, created) for recording, file_path, uuid, created in reversed(records)}
