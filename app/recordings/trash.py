"""The folder of the recordings in the trash. It lies in the recordings folder, so every copy of the service sees it.

Its name is no domain's, and the names in it are no messages', so the switch, the watcher and the index pass it over. A recording
is put there as a hard link, which takes no time and no space; where links are refused or cannot be made, as between two disks, as
a copy. All of it blocks: for a thread.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from uuid import uuid4

from app.errors import Unavailable
from app.recordings.model import SUFFIXES
from app.recordings.storage import RecordingMissing, RecordingStorage

FOLDER = ".voicemail-trash"
_COPYING = ".part"
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def name_for(key: str) -> str:
    """A new name in the trash for a recording."""
    suffix = PurePosixPath(key).suffix.lower()
    return f"{uuid4()}{suffix if suffix in SUFFIXES else ''}"


class TrashFolder:
    """Recordings in the trash, by their names there."""

    def __init__(self, storage: RecordingStorage, *, links: bool = True) -> None:
        """``links``: whether hard links may be made."""
        self._storage = storage
        self._links = links

    def keep(self, key: str, name: str, *, sync: bool = True) -> int:
        """Put a recording there under this name, and keep it also if the power fails; its size in bytes.

        Again does no harm. Raises ``RecordingMissing`` or ``RecordingRefused`` as ``open`` does, and ``OSError``. Without
        ``sync`` it outlives a power cut only after ``sync()``.
        """
        with self._storage.open(key) as recording, self._folder() as trash:
            facts = os.fstat(recording.descriptor)
            if _is_same(facts, trash, name):
                return facts.st_size
            _remove(trash, name)
            if not (self._links and self._link(key, facts, trash, name)):
                _copy(recording.descriptor, trash, name, part=name + _COPYING)
            if sync:
                os.fsync(trash)
            return facts.st_size

    def sync(self) -> None:
        """Keep what was put there also if the power fails."""
        with self._folder() as trash:
            os.fsync(trash)

    def put_back(self, name: str, key: str) -> bool:
        """Move a recording from the trash to its place; False if another recording has that place.

        Again does no harm. Raises ``RecordingMissing`` if it is at neither place, and ``OSError``.
        """
        with self._folder() as trash, self._made_folder_of(key) as (folder, target):
            here, there = _facts(trash, name), _facts(folder, target)
            if here is None and there is None:
                raise RecordingMissing("the recording in the trash is gone from the disk")
            if here is None:
                return True
            if there is not None or _taken(folder, target):
                return _is_same(here, folder, target) or _equal(trash, name, folder, target)
            try:
                os.rename(name, target, src_dir_fd=trash, dst_dir_fd=folder)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # The mailbox is on another disk. What the copy is of is removed from the trash when the row is back.
                with open(os.open(name, _OLD, dir_fd=trash), "rb") as kept:
                    _copy(kept.fileno(), folder, target, part=name + _COPYING)
            os.fsync(folder)
            return True

    def remove(self, name: str) -> bool:
        """Remove a recording from the trash; False if there was none. Raises ``OSError``."""
        with self._folder() as trash:
            if not _remove(trash, name):
                return False
            os.fsync(trash)
            return True

    def exists(self, name: str) -> bool:
        """Whether the recording is there."""
        with self._folder() as trash:
            return _facts(trash, name) is not None

    def older_than(self, moment: float) -> list[str]:
        """The names that were put there before this time (seconds since 1970)."""
        with self._folder() as trash:
            # A link has the times of its recording, but its own change is the latest one.
            return [name for name in os.listdir(trash) if (facts := _facts(trash, name)) and facts.st_ctime < moment]

    @contextmanager
    def _folder(self) -> Iterator[int]:
        """The open trash folder, made if it is not there; nobody else may look into it. Raises ``Unavailable``."""
        with self._storage.folder("") as root:
            try:
                os.mkdir(FOLDER, 0o700, dir_fd=root)
            except FileExistsError:
                pass
            except OSError as error:
                raise Unavailable(f"the trash folder cannot be made in the recordings folder: {error.strerror}") from error
        with self._storage.folder(FOLDER) as trash:
            yield trash

    @contextmanager
    def _made_folder_of(self, key: str) -> Iterator[tuple[int, str]]:
        """The folder of a key, made as FreeSWITCH makes it if the mailbox lost it."""
        parts = PurePosixPath(key).parts[:-1]
        for depth in range(1, len(parts) + 1):
            with self._storage.folder_of("/".join(parts[:depth])) as (above, folder):
                try:
                    os.mkdir(folder, 0o750, dir_fd=above)
                except FileExistsError:
                    continue
        with self._storage.folder_of(key) as (folder, name):
            yield folder, name

    def _link(self, key: str, facts: os.stat_result, trash: int, name: str) -> bool:
        """Whether a link could be made to the file that was opened."""
        try:
            with self._storage.folder_of(key) as (folder, own):
                os.link(own, name, src_dir_fd=folder, dst_dir_fd=trash, follow_symlinks=False)
        except OSError:
            return False
        if _is_same(facts, trash, name):
            return True
        _remove(trash, name)  # another file has the name now
        return False


def _copy(descriptor: int, folder: int, name: str, *, part: str) -> None:
    """Copy an open file into a folder; under another name until it is whole."""
    _remove(folder, part)
    with open(os.open(part, _NEW, 0o600, dir_fd=folder), "wb") as target, os.fdopen(os.dup(descriptor), "rb") as source:
        source.seek(0)
        shutil.copyfileobj(source, target, 1 << 18)
        target.flush()
        facts = os.fstat(descriptor)
        os.utime(target.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.fsync(target.fileno())
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def _facts(folder: int, name: str) -> os.stat_result | None:
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _taken(folder: int, name: str) -> bool:
    """Whether anything has this name, also what is no file."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _equal(folder: int, name: str, other_folder: int, other_name: str) -> bool:
    """Whether two files hold the same."""
    try:
        with (
            open(os.open(name, _OLD, dir_fd=folder), "rb") as one,
            open(os.open(other_name, _OLD, dir_fd=other_folder), "rb") as other,
        ):
            return hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
    except OSError:
        return False


def _is_same(facts: os.stat_result, folder: int, name: str) -> bool:
    there = _facts(folder, name)
    return there is not None and (there.st_dev, there.st_ino) == (facts.st_dev, facts.st_ino)


def _remove(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True
