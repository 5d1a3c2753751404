"""Converts recordings in child processes, a few at a time, and keeps the results. The loop waits; it computes nothing.

Callers that want the same at the same time share one child. When the last of them goes, the child is killed.
"""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import structlog

from app.errors import Invalid, Unavailable
from app.recordings.audio import child
from app.recordings.audio.cache import AudioCache, Draft
from app.recordings.audio.kinds import Kind
from app.recordings.audio.peaks import Waveform, folded
from app.recordings.storage import OpenRecording

log = structlog.get_logger(__name__)

_PEAKS = "peaks"
_LONGEST = float(child.ALIVE)  # seconds; of these the child may use 60 of a processor
_LARGEST = 256 * 1024 * 1024  # bytes of a recording
_MOST_WAITING = 100
_PARTS = ("lameenc", "soundfile")


class Unconvertible(Invalid):
    """The recording is no audio that this service can read."""

    def __init__(self, detail: str = "the recording is no audio that this service can convert") -> None:
        super().__init__([])
        self.detail = detail
        self.args = (detail,)


@dataclass(slots=True)
class _Flight:
    """A conversion under way, and how many wait for it."""

    task: "asyncio.Task[OpenRecording]"
    waiting: int = 0


class _Child:
    """A child process, run in a thread: to start one stops whoever does it for a while, with uvloop the loop for 50 ms."""

    def __init__(self, kind: str, suffix: str, source: int, target: int) -> None:
        self._command = [sys.executable, "-I", "-m", child.__name__, kind, suffix]
        self._source, self._target = source, target
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def to_its_end(self) -> int:
        """Start it and wait; its status."""
        if self._killed:
            return -signal.SIGKILL
        self._process = subprocess.Popen(  # noqa: S603 - a program of ours
            self._command, stdin=self._source, stdout=self._target, stderr=subprocess.DEVNULL, env={"LC_ALL": "C.UTF-8"}
        )
        if self._killed:
            self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        """End it; from another thread, at any time."""
        self._killed = True
        if self._process is not None:
            self._process.kill()


class Conversions:
    """Recordings in other formats, made when they are asked for."""

    def __init__(self, folder: Path, *, most_bytes: int, at_once: int | None = None, seconds: float = _LONGEST) -> None:
        """``folder`` is made when it is needed; it holds at most ``most_bytes`` when nothing is under way."""
        self._cache = AudioCache(folder, most_bytes)
        self._seconds = seconds
        at_once = at_once or os.cpu_count() or 1
        self._turns = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="conversion")
        self._flights: dict[str, _Flight] = {}
        self._made_by = " ".join(f"{name} {version(name)}" for name in _PARTS)

    def tag(self, kind: Kind) -> str:
        """What tells one way of converting from another; part of an ETag."""
        return f"{kind}-{hashlib.sha256(self._made_by.encode()).hexdigest()[:8]}"

    async def converted(self, recording: OpenRecording, key: str, kind: Kind) -> OpenRecording:
        """The recording with this key in another format, open. Both are the caller's to close.

        Raises ``Unconvertible``, and ``Unavailable`` if there is no room or no time for it.
        """
        return await self._get(recording, key, kind)

    async def waveform(self, recording: OpenRecording, key: str, points: int) -> Waveform:
        """How loud a recording is over time. Raises as ``converted`` does."""
        with await self._get(recording, key, _PEAKS) as kept:
            return await asyncio.to_thread(lambda: folded(kept.read(0, kept.opened.size), points))

    async def _get(self, recording: OpenRecording, key: str, kind: str) -> OpenRecording:
        facts = recording.opened
        identity = "\0".join((key, str(facts.size), str(facts.mtime_ns), kind, self._made_by))
        name = f"{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:48]}.{kind}"
        if (kept := await asyncio.to_thread(self._cache.open, name)) is not None:
            return kept
        if facts.size > _LARGEST:
            raise Unconvertible(f"the recording is larger than {_LARGEST // 1024**2} MiB, and is not converted")
        if (flight := self._flights.get(name)) is None:
            if len(self._flights) >= _MOST_WAITING:
                raise Unavailable("too many recordings are being converted")
            source = OpenRecording(os.dup(recording.descriptor), recording.name)
            flight = self._flights[name] = _Flight(asyncio.ensure_future(self._convert(source, kind, name)))
            flight.task.add_done_callback(lambda task: self._landed(name, task))
        flight.waiting += 1
        try:
            made = await asyncio.shield(flight.task)
            return OpenRecording(os.dup(made.descriptor), name)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(name, None)
                flight.task.cancel()

    def _landed(self, name: str, task: "asyncio.Task[OpenRecording]") -> None:
        if (flight := self._flights.get(name)) is not None and flight.task is task:
            del self._flights[name]
        if not task.cancelled():
            task.exception()  # every caller that still waits raises it

    async def _convert(self, source: OpenRecording, kind: str, name: str) -> OpenRecording:
        with source:
            async with self._turns, self._draft() as draft:
                await self._run(source, kind, draft)
                if source.stat() == source.opened:
                    await asyncio.to_thread(self._kept, draft, name)
                # Else it still grows: this is what there was, and is not kept.
                return OpenRecording(os.dup(draft.descriptor), name)

    def _kept(self, draft: Draft, name: str) -> None:
        try:
            self._cache.keep(draft, name)
        except OSError as error:
            log.warning("audio_cache_failed", reason=error.strerror)  # it is served all the same

    @asynccontextmanager
    async def _draft(self) -> AsyncIterator[Draft]:
        try:
            draft = await asyncio.to_thread(self._cache.draft)
        except OSError as error:
            log.warning("audio_cache_failed", reason=error.strerror)
            raise Unavailable("the folder of converted recordings cannot be written") from error
        try:
            yield draft
        finally:
            self._cache.drop(draft)

    async def _run(self, source: OpenRecording, kind: str, draft: Draft) -> None:
        """Run the child to its end. Raises ``Unconvertible`` and ``Unavailable``."""
        suffix = PurePosixPath(source.name).suffix.lower()
        suffix = suffix if suffix.isascii() and len(suffix) < 10 else ""
        run = _Child(kind, suffix, source.descriptor, draft.descriptor)
        running = asyncio.get_running_loop().run_in_executor(self._threads, run.to_its_end)
        try:
            async with asyncio.timeout(self._seconds):
                status = await asyncio.shield(running)
        except TimeoutError:
            status = None
        finally:
            run.kill()
            await asyncio.wait([running])  # its files are closed after this
        if status == 0:
            return
        if status != child.NOT_AUDIO:
            log.warning("conversion_failed", to=kind, status=status, size=source.opened.size)
        if status is None:
            raise Unconvertible("the recording takes too long to convert")
        raise Unconvertible
