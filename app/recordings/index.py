"""Keeps ``voicemail.recording`` in step with the recordings folder: the whole tree, single files, and files that still grow."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import TypeVar

import structlog
from prometheus_client import Counter

from app.database.pool import Pool
from app.errors import ConstraintViolated, UnfitValue
from app.jobs.loop import Loop
from app.recordings import files, store
from app.recordings.model import SUFFIXES, FoundFile, Recording, fits_index, is_message_name
from app.recordings.storage import RecordingsFolderGone, RecordingStorage

log = structlog.get_logger(__name__)
T = TypeVar("T")

SETTLE = 2.0  # seconds a file must have been left alone before it is read
_SLICE = 250  # files a time: one statement each to ask and to write
_WRITE_EVERY = 2.0  # seconds of reading after which the index is written, so that a slow file holds up few others
_MOST_NAMED = 10_000  # recordings of rows that wait to be read; the scan finds the rest
_READERS = 2  # threads that read: one for the watcher, and one for the recordings of new rows
_MOST_TOLD = 1000
_REPORT_FILES, _REPORT_SECONDS = 1000, 3.0  # a long scan says how far it is at least this often


@dataclass(slots=True)
class ScanCount:
    """What a scan met so far."""

    files: int = 0
    read: int = 0
    removed: int = 0
    skipped: int = 0


class RecordingIndex:
    """The index of one recordings folder. Any number of calls may run at once.

    Files are read in threads of their own, because a slow disk must not take those in which mails and downloads are read.
    """

    def __init__(self, pool: Pool, storage: RecordingStorage, *, settle: float = SETTLE) -> None:
        self._pool = pool
        self._storage, self._paths = storage, storage.paths
        self._settle = settle
        self._growing: dict[str, tuple[FoundFile, float]] = {}
        self._told: set[str] = set()
        self._named: dict[str, None] = {}  # in the order in which they came
        self._loop = Loop("recordings_of_messages", self.read_named, every=None)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="recordings")
        self.indexed = Counter("voicemail_recordings_indexed", "Recordings read into the index", registry=None)

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
            # A new folder is named together with the files in it; the index takes each file once a statement.
            found = list({file.path: file for file in found}.values())
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

    async def find(self, paths: Iterable[str]) -> list[FoundFile]:
        """The messages' files at or below these paths, which are not read."""
        skipped = self._skipping(ScanCount())
        return (await asyncio.to_thread(files.look_all, self._storage, list(paths), skipped))[0]

    def name(self, file_paths: Iterable[str]) -> None:
        """Read the recordings of these rows soon: ``run`` does it. Whoever mails a message waits for no file."""
        self._named.update(dict.fromkeys(file_paths))
        while len(self._named) > _MOST_NAMED:
            del self._named[next(iter(self._named))]
        self._loop.wake()

    async def run(self) -> None:
        """Read what ``name`` names, until cancelled."""
        await self._loop.run()

    async def read_named(self) -> None:
        """Read what was named until now."""
        while some := list(islice(self._named, _SLICE)):
            await self.add(some)
            for file_path in some:
                self._named.pop(file_path, None)

    async def add(self, file_paths: Iterable[str]) -> None:
        """Index the recordings of rows, named as the switch names them: a row means that its file is complete."""
        named = {relative for file_path in file_paths if (relative := self._paths.relative(file_path)) is not None}
        for some in _slices(iter(sorted(filter(fits_index, named))), _SLICE):
            await self._read(some)

    async def _take(self, found: Sequence[FoundFile]) -> int:
        """Read what is new or changed and has settled; says how many were read."""
        settled = [file for file in found if self._has_settled(file)]
        if not settled:
            return 0
        async with self._pool.acquire() as connection:
            known = await store.known(connection, [file.path for file in settled])
        changed = [file.path for file in settled if known.get(file.path) != (file.size, file.mtime_ns)]
        return await self._read(changed)

    async def _read(self, keys: Sequence[str]) -> int:
        """Read these files into the index; says how many could be read. When this is cancelled, its thread ends soon."""
        stop, count, loop = threading.Event(), 0, asyncio.get_running_loop()
        try:
            while keys:
                work = partial(files.read_some, self._storage, keys, stop.is_set, _WRITE_EVERY)
                recordings, keys = await loop.run_in_executor(self._readers, work)
                self._tell_damage(recordings)
                await self._put(recordings)
                count += len(recordings)
        except asyncio.CancelledError:
            stop.set()
            raise
        return count

    def _tell_damage(self, recordings: Sequence[Recording]) -> None:
        for recording in recordings:
            if recording.damage:
                self._tell("recording_damaged", recording.path, recording.damage)
            elif recording.sha256 is None:
                self._tell("recording_not_hashed", recording.path, "it is too large, or its disk is too slow")

    async def _put(self, recordings: Sequence[Recording]) -> None:
        """Write to the index. What the database refuses is refused alone, and not tried for ever."""
        if not recordings:
            return
        try:
            async with self._pool.acquire() as connection:
                await store.put(connection, recordings)
        except (ConstraintViolated, UnfitValue, ValueError) as error:  # a ValueError: asyncpg cannot send it
            half = len(recordings) // 2
            if half:
                await self._put(recordings[:half])
                await self._put(recordings[half:])
            elif (plain := _without_facts(recordings[0])) != recordings[0]:
                await self._put([plain])
            else:
                self._tell("recording_skipped", plain.path, f"the index refused it: {type(error).__name__}")
        else:
            self.indexed.inc(len(recordings))

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
            self._tell("recording_skipped", path, reason)

        return skipped

    def _tell(self, event: str, path: str, reason: str) -> None:
        """Log the trouble of a file once, and not that of more than a thousand files."""
        if path not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(path)
            log.warning(event, path=path.encode(errors="replace").decode(), reason=reason)


def _slices(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(items, size)):
        yield some


def _without_facts(recording: Recording) -> Recording:
    damage = "its facts do not fit the index"
    return replace(recording, duration=None, sample_rate=None, channels=None, sha256=None, damage=damage)
