"""Watches the recordings folder: every change is a hint that a message may have come, and keeps the index in step."""

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

import structlog
from watchfiles import Change, awatch

from app.errors import DatabaseFailed, file_and_reason
from app.jobs.loop import Trouble
from app.jobs.retries import Retries
from app.recordings.files import folder_identity
from app.recordings.index import RecordingIndex
from app.recordings.model import is_message_name
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingsFolderGone

log = structlog.get_logger(__name__)

_RETRIES = Retries(first=0.5, longest=60.0)  # while the database is away
RESCAN = 600.0  # seconds; the kernel drops events when too many come at once


class _Replaced(Exception):
    """Another folder has the name of the watched one now, as when a disk was mounted there."""


class RecordingWatcher:
    """Runs for as long as one process leads.

    ``hint`` is given the messages' files that changed, named below the recordings folder, after every change; it must not block.
    """

    def __init__(
        self,
        index: RecordingIndex,
        paths: RecordingPaths,
        hint: Callable[[Collection[str]], None],
        *,
        rescan: float = RESCAN,
        unwatched: float = 60.0,
        look: float = 1.0,
    ) -> None:
        self._index = index
        self._root = paths.root
        self._hint = hint
        self._rescan = rescan
        self._unwatched = unwatched  # seconds between two scans if the kernel gives no watch
        self._look = look  # seconds between two looks at growing files, and at whether the folder is still there
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._blind = False
        self._trouble = Trouble("recordings_watch")

    async def run(self) -> None:
        """Watch until cancelled. A folder that is missing, or goes and comes back, is waited for."""
        failures = 0
        while True:
            try:
                identity = await asyncio.to_thread(folder_identity, self._root)
                root = await asyncio.to_thread(self._root.resolve)
                self._blind = False
                async with asyncio.TaskGroup() as tasks:
                    # The watch is in place before the scan begins, so nothing falls between them.
                    tasks.create_task(self._listen(root))
                    tasks.create_task(self._keep(identity))
                pause, failures = _RETRIES.first, 0
            except* RecordingsFolderGone as group:
                self._say("recordings_folder_gone", first_of(group))
                pause = self._look
            except* _Replaced:
                log.info("recordings_folder_replaced")
                pause = 0.0
            except* (DatabaseFailed, OSError) as group:
                self._say("recordings_index_failed", first_of(group))
                failures += 1
                pause = _RETRIES.delay(failures)
            await asyncio.sleep(pause)

    def _say(self, event: str, error: BaseException, **facts: float) -> None:
        """Log a trouble once, not at every try."""
        trouble = file_and_reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        self._trouble.tell(trouble, event=event, **facts)

    async def _listen(self, root: Path) -> None:
        try:
            async for changes in awatch(root, watch_filter=None, debounce=100, step=50, ignore_permission_denied=True):
                there = {os.path.relpath(path, root) for change, path in changes if change is not Change.deleted}
                self._changed |= there | {os.path.relpath(path, root) for _, path in changes}
                self._wake.set()
                messages = {path for path in there if is_message_name(PurePosixPath(path).name)}
                self._hint(messages)
                # A folder that is new may have been filled before its watch was in place.
                if inside := {file.path for file in await self._index.find(there - messages)} - messages:
                    self._hint(inside)
        except (OSError, RuntimeError) as error:  # as when the kernel allows no more watches
            self._blind = True
            self._say("recordings_watch_failed", error, scanning_every=self._unwatched)

    async def _keep(self, identity: tuple[int, int]) -> None:
        """Scan all, then what changed, then all again after a while; without a watch it ends then, for it to be tried again."""
        loop = asyncio.get_running_loop()
        while True:
            await self._index.scan()
            if not self._blind:
                self._trouble.over(event="recordings_folder_watched_again")
            began = loop.time()
            while loop.time() - began < (self._unwatched if self._blind else self._rescan):
                await self._step()
                if await asyncio.to_thread(folder_identity, self._root) != identity:
                    raise _Replaced
            if self._blind:
                return

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(self._look):
                await self._wake.wait()
        except TimeoutError:
            await self._index.look_again()
            return
        self._wake.clear()
        changed, self._changed = self._changed, set()
        await self._index.look(changed)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of groups."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
