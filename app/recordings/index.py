"""Keeps ``voicemail.recording`` in step with the recordings folder: the whole tree, single files, and files that still grow."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import TypeVar

import structlog

from app.database.pool import Pool
from app.recordings import files, store
from app.recordings.model import SUFFIXES, FoundFile, Recording, fits_index, is_message_name
from app.recordings.storage import RecordingsFolderGone, RecordingStorage

log = structlog.get_logger(__name__)
T = TypeVar("T")

SETTLE = 2.0  # seconds a file must have been left alone before it is read
_SLICE = 250  # files a time: one statement each to ask and to write
_REPORT_FILES, _REPORT_SECONDS = 1000, 3.0  # a long scan says how far it is at least this often


@dataclass(slots=True)
class ScanCount:
    """What a scan met so far."""

    files: int = 0
    read: int = 0
    removed: int = 0
    skipped: int = 0


class RecordingIndex:
    """The index of one recordings folder. Any number of calls may run at once."""

    def __init__(self, pool: Pool, storage: RecordingStorage, *, settle: float = SETTLE) -> None:
        self._pool = pool
        self._storage, self._paths = storage, storage.paths
        self._settle = settle
        self._growing: dict[str, tuple[FoundFile, float]] = {}
        self._told: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether files are left alone for now because they may still grow; ``look_again`` is for them."""
        return bool(self._growing)

    async def scan(self) -> ScanCount:
        """Look at the whole folder. Raises ``RecordingsFolderGone`` if there is none, and then forgets nothing."""
        await self.check_folder()
        count, began = ScanCount(), time.monotonic()
        reported, reported_at = 0, began
        walk = files.walk(self._storage, "", self._skipping(count))
        while found := await asyncio.to_thread(lambda: list(islice(walk, _SLICE))):
            count.files += len(found)
            count.read += await self._take(found)
            if count.files - reported >= _REPORT_FILES or time.monotonic() - reported_at >= _REPORT_SECONDS:
                reported, reported_at = count.files, time.monotonic()
                log.info("recordings_scan", files=count.files, read=count.read, seconds=round(reported_at - began, 1), done=False)
        count.removed = await self._forget_missing()
        log.info(
            "recordings_scan", files=count.files, read=count.read, removed=count.removed, skipped=count.skipped,
            growing=len(self._growing), seconds=round(time.monotonic() - began, 1), done=True,
        )  # fmt: skip
        return count

    async def look(self, paths: Iterable[str]) -> list[FoundFile]:
        """Look at these files or folders, relative to the recordings folder, where something changed; the files found."""
        skipped = self._skipping(ScanCount())
        all_found: list[FoundFile] = []
        for some in _slices(iter(paths), _SLICE):
            found, gone = await asyncio.to_thread(files.look_all, self._storage, some, skipped)
            for part in _slices(iter(found), _SLICE):
                await self._take(part)
            if gone:
                await self._forget(gone)
            all_found += found
        return all_found

    async def look_again(self) -> None:
        """Look again at the files that were left alone long enough."""
        before = time.monotonic() - self._settle
        if due := [path for path, (_, since) in self._growing.items() if since <= before]:
            await self.look(due)

    async def add(self, file_paths: Iterable[str]) -> None:
        """Index the recordings of rows, named as the switch names them: a row means that its file is complete."""
        named = {relative for file_path in file_paths if (relative := self._paths.relative(file_path)) is not None}
        for some in _slices(iter(sorted(filter(fits_index, named))), _SLICE):
            await self._put(await _reading(self._storage, some))

    async def _take(self, found: Sequence[FoundFile]) -> int:
        """Read what is new or changed and has settled; says how many were read."""
        settled = [file for file in found if self._has_settled(file)]
        if not settled:
            return 0
        async with self._pool.acquire() as connection:
            known = await store.known(connection, [file.path for file in settled])
        changed = [file.path for file in settled if known.get(file.path) != (file.size, file.mtime_ns)]
        recordings = await _reading(self._storage, changed)
        await self._put(recordings)
        return len(recordings)

    async def _put(self, recordings: Sequence[Recording]) -> None:
        if recordings:
            async with self._pool.acquire() as connection:
                await store.put(connection, recordings)

    def _has_settled(self, file: FoundFile) -> bool:
        """Whether nobody has written to the file for a while; the file server's clock may be ahead of ours."""
        age = time.time() - file.mtime_ns / 1e9
        seen, since = self._growing.get(file.path, (None, 0.0))
        if age >= self._settle or (seen == file and time.monotonic() - since >= self._settle):
            self._growing.pop(file.path, None)
            return True
        if seen != file:
            self._growing[file.path] = (file, time.monotonic())
        return False

    async def _forget_missing(self) -> int:
        removed, last = 0, ""
        while True:
            async with self._pool.acquire() as connection:
                paths = await store.after(connection, last, 1000)
            if not paths:
                return removed
            last = paths[-1]
            removed += await self._remove(paths)

    async def _forget(self, gone: Sequence[str]) -> None:
        """Take what was removed out of the index; a path may have been a folder."""
        paths = []
        async with self._pool.acquire() as connection:
            for path in filter(fits_index, gone):
                self._growing.pop(path, None)
                if is_message_name(PurePosixPath(path).name):
                    paths.append(path)
                elif PurePosixPath(path).suffix.lower() not in SUFFIXES:
                    paths += await store.below(connection, path)
        await self._remove(paths)

    async def _remove(self, paths: Sequence[str]) -> int:
        """Take those of the paths that are not on disk out of the index; says how many were in it."""
        missing = await asyncio.to_thread(files.missing, self._storage, paths)
        if not missing:
            return 0
        # If the disk is unmounted, every file is missing until it is mounted again.
        await self.check_folder()
        async with self._pool.acquire() as connection:
            removed = await store.remove(connection, missing)
        if removed:
            log.info("recordings_removed", count=removed, first=missing[0])
        return removed

    async def check_folder(self) -> None:
        """Raise ``RecordingsFolderGone`` if the folder is missing, or empty though recordings were in it."""
        await asyncio.to_thread(files.folder_identity, self._paths.root)
        if not await asyncio.to_thread(files.is_empty, self._paths.root):
            return
        async with self._pool.acquire() as connection:
            if await store.has_any(connection):
                raise RecordingsFolderGone("the recordings folder is empty, though recordings were in it")

    def _skipping(self, count: ScanCount) -> Callable[[str, str], None]:
        def skipped(path: str, reason: str) -> None:
            count.skipped += 1
            if path not in self._told and len(self._told) < 1000:  # each path is logged once, up to a limit
                self._told.add(path)
                log.warning("recording_skipped", path=path.encode(errors="replace").decode(), reason=reason)

        return skipped


def _slices(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(items, size)):
        yield some


async def _reading(storage: RecordingStorage, wanted: Sequence[str]) -> list[Recording]:
    """Read recordings in a thread; when this is cancelled the thread ends soon."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(files.read_all, storage, wanted, stop.is_set) if wanted else []
    except asyncio.CancelledError:
        stop.set()
        raise
