"""Puts a second recording of a message into another mailbox's folder: as a copy, or as a hard link if the first one will go.

It has the switch's rights there: those of the recording it is made from. All of it blocks: for a thread.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath

from app.recordings.storage import OpenRecording, RecordingStorage

_PART = ".part"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class RecordingPlacer:
    """Places recordings; both keys are below the recordings folder."""

    def __init__(self, storage: RecordingStorage, *, links: bool = True) -> None:
        """``links``: whether hard links may be made."""
        self._storage, self._links = storage, links

    def place(self, source: str, target: str, *, link: bool) -> None:
        """Put the recording there too, whole and also if the power fails. ``target`` is nobody else's; again does no harm.

        ``link``: as a hard link if one can be made. Both are to stay else, and what is written to one must not be in the other.

        Raises ``RecordingMissing`` or ``RecordingRefused`` if there is no recording at ``source``, and ``OSError``.
        """
        with self._made_folder_of(target) as (folder, name):
            if not _is_there(folder, name):
                with self._storage.open(source) as recording:
                    if not (link and self._links and self._link(source, recording, folder, name)):
                        _copy(recording, folder, name)
            os.fsync(folder)

    @contextmanager
    def _made_folder_of(self, key: str) -> Iterator[tuple[int, str]]:
        """The folder of a key, made as FreeSWITCH makes it for the first message of a mailbox."""
        parts = PurePosixPath(key).parts[:-1]
        for depth in range(1, len(parts) + 1):
            with self._storage.folder_of("/".join(parts[:depth])) as (above, folder), suppress(FileExistsError):
                os.mkdir(folder, 0o750, dir_fd=above)
        with self._storage.folder_of(key) as (folder, name):
            yield folder, name

    def _link(self, key: str, recording: OpenRecording, folder: int, name: str) -> bool:
        """Whether a link could be made to the file that was opened."""
        try:
            with self._storage.folder_of(key) as (own_folder, own):
                os.link(own, name, src_dir_fd=own_folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        there, opened = os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(recording.descriptor)
        if (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino):
            return True
        os.unlink(name, dir_fd=folder)  # another file has the name of the source now
        return False


def _is_there(folder: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _copy(recording: OpenRecording, folder: int, name: str) -> None:
    """Copy an open file; under another name, which is no message's, until it is whole."""
    part, facts = name + _PART, os.fstat(recording.descriptor)
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    with (
        open(os.open(part, _NEW, 0o600, dir_fd=folder), "wb") as target,
        os.fdopen(os.dup(recording.descriptor), "rb") as source,
    ):
        source.seek(0)
        shutil.copyfileobj(source, target, 1 << 18)
        target.flush()
        with suppress(PermissionError):  # only root may give a file away
            os.fchown(target.fileno(), facts.st_uid, facts.st_gid)
        os.fchmod(target.fileno(), stat.S_IMODE(facts.st_mode) & 0o777)
        os.utime(target.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.fsync(target.fileno())
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
