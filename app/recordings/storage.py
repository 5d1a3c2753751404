"""The one place that opens a recording. Keys cross its border, never paths; what was checked is what is read.

Every part of a key is opened by descriptor from the root on, and no link is followed (``openat`` with ``O_NOFOLLOW``), so
swapping a file or a folder cannot make it read a file outside the recordings folder. All of it blocks: for a thread.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from app.errors import NotFound, Unavailable
from app.recordings.paths import OutsideRecordings, RecordingPaths

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the open of a pipe waits for its writer; of a plain file it changes nothing.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINK = {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}
_LARGEST_TIME = 2**63 - 1  # nanoseconds; some file systems hold later times, and no column does


class RecordingsFolderGone(Unavailable):
    """The recordings folder is not there, or was emptied at once, as when its disk is not mounted."""


class RecordingMissing(NotFound):
    """The recording is not there."""


class RecordingRefused(NotFound):
    """The thing at this path is not a recording but a link, a pipe, a device or a folder."""


@dataclass(frozen=True, slots=True)
class RecordingStat:
    """What the file system knows about one recording."""

    size: int  # bytes
    mtime_ns: int

    @property
    def version(self) -> str:
        """What the ``ETag`` of a download says (``app.http.files``)."""
        return f"{self.mtime_ns:x}-{self.size:x}"

    @classmethod
    def of(cls, facts: os.stat_result) -> Self:
        """Of what the system says about a file; a time that fits no column is cut."""
        return cls(facts.st_size, min(max(facts.st_mtime_ns, -_LARGEST_TIME), _LARGEST_TIME))


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
    """The recordings folder, by key: the path of a file relative to the folder.

    Without the folder itself every call but ``exists`` raises ``RecordingsFolderGone``: that says nothing about a recording.
    """

    def __init__(self, paths: RecordingPaths, *, refuse_hard_links: bool = False) -> None:
        """``refuse_hard_links``: whether a file with more than one name is refused, for folders that others may write to."""
        self.paths = paths
        self._refuse_hard_links = refuse_hard_links

    def key(self, file_path: str) -> str:
        """The key of the recording that the switch names ``file_path``. Raises ``OutsideRecordings``."""
        key = self.paths.relative(file_path)
        if key is None:
            raise OutsideRecordings("the recording is not in the recordings folder")
        return key

    def open(self, key: str) -> OpenRecording:
        """Open a recording. Raises ``RecordingMissing`` or ``RecordingRefused``, both with a reason."""
        try:
            with self.folder_of(key) as (folder, name):
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
        try:
            facts = self._lstat(key)
        except OSError as error:
            raise _reason(error, key) from error
        self._check(facts)
        return RecordingStat.of(facts)

    def exists(self, key: str) -> bool:
        """Whether there is anything under this name, as far as this process may look."""
        try:
            self._lstat(key)
        except (NotFound, Unavailable, OSError):
            return False
        return True

    def gone(self, key: str) -> bool:
        """Whether a recording has certainly been removed: it is not there, and the folder it was in is.

        Raises ``Unavailable`` if that folder cannot be read, as with a disk that is not mounted.
        """
        try:
            with self.folder_of(key) as (folder, name):
                try:
                    os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    return True
        except FileNotFoundError as error:
            raise Unavailable("the folder of the recording is not there") from error
        except OSError as error:
            raise Unavailable(f"the recording cannot be looked for: {error.strerror}") from error
        return False

    def obstacle(self, key: str) -> str:
        """Why the recording could not be removed; ``""`` if it could be, or if there is none.

        FreeSWITCH makes a mailbox's folder with mode 0750, so only a service of the same user may remove files there.
        """
        try:
            with self.folder_of(key) as (folder, name):
                self._check(os.stat(name, dir_fd=folder, follow_symlinks=False))
                may = os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)
        except FileNotFoundError:
            return ""
        except (NotFound, Unavailable) as error:
            return error.detail
        except OSError as error:
            return f"the recording's folder cannot be opened: {error.strerror}"
        return "" if may else "this service may not remove files from the recording's folder"

    def remove(self, key: str) -> bool:
        """Remove a recording, to stay removed also if the power fails; False if there was none.

        Raises ``RecordingRefused`` for what is no plain file, and ``OSError`` if it may still be there.
        """
        try:
            with self.folder_of(key) as (folder, name):
                self._check(os.stat(name, dir_fd=folder, follow_symlinks=False))
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in _LINK:
                raise _reason(error, key) from error
            raise
        return True

    def local_path(self, key: str) -> Path:
        """Where the file is, for a program that takes a path; nothing about it was checked. Raises ``OutsideRecordings``."""
        return self.paths.root.joinpath(*_parts(key))

    @contextmanager
    def folder(self, key: str) -> Iterator[int]:
        """The open folder at a key, ``""`` for all recordings; no link is followed. Raises ``OSError``."""
        here = self._descend(_parts(key) if key else ())
        try:
            yield here
        finally:
            os.close(here)

    @contextmanager
    def folder_of(self, key: str) -> Iterator[tuple[int, str]]:
        """The open folder that a recording lies in, and its name there. Raises ``OutsideRecordings`` or ``OSError``."""
        *folders, name = _parts(key)
        here = self._descend(folders)
        try:
            yield here, name
        finally:
            os.close(here)

    def _lstat(self, key: str) -> os.stat_result:
        with self.folder_of(key) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def _check(self, facts: os.stat_result) -> None:
        if not stat.S_ISREG(facts.st_mode):
            raise RecordingRefused("the recording is not a file")
        if self._refuse_hard_links and facts.st_nlink > 1:
            raise RecordingRefused("the recording has a second name on the disk (a hard link)")

    def _descend(self, folders: Sequence[str]) -> int:
        # The root itself may be a link: that is the operator's own setting.
        try:
            here = os.open(self.paths.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RecordingsFolderGone(f"the recordings folder cannot be read: {error.strerror}") from error
        for part in folders:
            try:
                inner = os.open(part, _FOLDER, dir_fd=here)
            finally:
                os.close(here)
            here = inner
        return here


def _parts(key: str) -> tuple[str, ...]:
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key or not _encodes(key):
        raise OutsideRecordings("the recording is not in the recordings folder")
    return parts


def _encodes(key: str) -> bool:
    """Whether a file can have this name: Python holds undecodable bytes as some surrogates, and no other ones."""
    try:
        os.fsencode(key)
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: OSError, key: str) -> NotFound:
    name = key.rsplit("/", 1)[-1].encode(errors="replace").decode()
    if error.errno == errno.ENOENT:
        return RecordingMissing(f"the recording {name!r} is gone from the disk")
    if error.errno in _LINK:
        return RecordingRefused(f"the recording {name!r} is behind a link or is no file, and is not followed")
    return RecordingMissing(f"the recording {name!r} cannot be read: {error.strerror}")
