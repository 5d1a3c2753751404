"""The one place that opens a recording. Keys cross its border, never paths; what was checked is what is read.

Every part of a key is opened by descriptor from the root on, and no link is followed (``openat`` with ``O_NOFOLLOW``), so
whoever swaps a file or a folder in between gets nothing out of the recordings folder. All of it blocks: for a thread.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from app.errors import NotFound
from app.recordings.paths import OutsideRecordings, RecordingPaths

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the open of a pipe waits for its writer; of a plain file it changes nothing.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINK = {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}


class RecordingMissing(NotFound):
    """The recording is not there."""


class RecordingRefused(NotFound):
    """What is there is no recording: a link, a pipe, a device or a folder."""


@dataclass(frozen=True, slots=True)
class RecordingStat:
    """What the file system knows about one recording."""

    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Self:
        """The facts of an open file."""
        return cls(facts.st_size, facts.st_mtime_ns)


class OpenRecording:
    """One recording, open. Reading never leaves the file that was checked. Close it, or use it as a context."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name
        """The file's own name, without its folders."""
        self.opened = self.stat()

    def stat(self) -> RecordingStat:
        """Its size and time as they are now; ``opened`` holds those of the start."""
        return RecordingStat.of(os.fstat(self._descriptor))

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file. Raises ``OSError``."""
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    @property
    def descriptor(self) -> int:
        """For what reads a file itself, such as a decoder. It stays this object's own."""
        return self._descriptor

    def close(self) -> None:
        """Close it; again does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # An answer that nobody waits for any more is dropped without being sent.
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class RecordingStorage:
    """The recordings folder, by key: the path of a file relative to the folder."""

    def __init__(self, paths: RecordingPaths, *, refuse_hard_links: bool = False) -> None:
        """``refuse_hard_links``: whether a file with more than one name is refused, for folders that others may write to."""
        self._paths = paths
        self._refuse_hard_links = refuse_hard_links

    def key(self, file_path: str) -> str:
        """The key of the recording that the switch names ``file_path``. Raises ``OutsideRecordings``."""
        key = self._paths.relative(file_path)
        if key is None:
            raise OutsideRecordings("the recording is not in the recordings folder")
        return key

    def open(self, key: str) -> OpenRecording:
        """Open a recording. Raises ``RecordingMissing`` or ``RecordingRefused``, both with a reason."""
        with self._folder_of(key) as (folder, name):
            try:
                descriptor = os.open(name, _FILE, dir_fd=folder)
            except OSError as error:
                raise _reason(error, key) from error
        try:
            self._check(os.fstat(descriptor))
            return OpenRecording(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise

    def stat(self, key: str) -> RecordingStat:
        """What is at a key, without reading it. Raises as ``open`` does."""
        with self._folder_of(key) as (folder, name):
            try:
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                raise _reason(error, key) from error
        self._check(facts)
        return RecordingStat.of(facts)

    def exists(self, key: str) -> bool:
        """Whether a recording is there, as far as this process may look."""
        try:
            self.stat(key)
        except NotFound:
            return False
        return True

    def remove(self, key: str) -> bool:
        """Remove a recording for good; whether there was one. Raises ``RecordingRefused`` and ``OSError``."""
        try:
            with self._folder_of(key) as (folder, name):
                self._check(os.stat(name, dir_fd=folder, follow_symlinks=False))
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except (FileNotFoundError, RecordingMissing):
            return False
        return True

    def local_path(self, key: str) -> Path:
        """Where the file is, for a program that takes a path; nothing about it was checked. Raises ``OutsideRecordings``."""
        return self._paths.root.joinpath(*_parts(key))

    def _check(self, facts: os.stat_result) -> None:
        if not stat.S_ISREG(facts.st_mode):
            raise RecordingRefused("the recording is not a file")
        if self._refuse_hard_links and facts.st_nlink > 1:
            raise RecordingRefused("the recording has a second name on the disk (a hard link)")

    @contextmanager
    def _folder_of(self, key: str) -> Iterator[tuple[int, str]]:
        """The open folder of a key, and the file's name in it."""
        *folders, name = _parts(key)
        # The root itself may be a link: that is the operator's own setting.
        try:
            here = os.open(self._paths.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RecordingMissing(f"the recordings folder cannot be read: {error.strerror}") from error
        try:
            for part in folders:
                try:
                    inner = os.open(part, _FOLDER, dir_fd=here)
                except OSError as error:
                    raise _reason(error, key) from error
                os.close(here)
                here = inner
            yield here, name
        finally:
            os.close(here)


def _parts(key: str) -> tuple[str, ...]:
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key:
        raise OutsideRecordings("the recording is not in the recordings folder")
    return parts


def _reason(error: OSError, key: str) -> NotFound:
    name = key.rsplit("/", 1)[-1].encode(errors="replace").decode()
    if error.errno == errno.ENOENT:
        return RecordingMissing(f"the recording {name!r} is gone from the disk")
    if error.errno in _LINK:
        return RecordingRefused(f"the recording {name!r} is behind a link or is no file, and is not followed")
    return RecordingMissing(f"the recording {name!r} cannot be read: {error.strerror}")
