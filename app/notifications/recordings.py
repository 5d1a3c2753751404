"""Reads the recording that goes with a mail. Everything here blocks: it runs in a thread."""

import os
import stat

from app.errors import NotFound, Unavailable
from app.notifications.mail.compose import LARGEST_RECORDING, Audio
from app.recordings.paths import RecordingPaths


class RecordingEmpty(NotFound):
    """The recording is empty."""


class Recordings:
    """The files below the recordings folder, as attachments."""

    def __init__(self, paths: RecordingPaths, *, largest: int = LARGEST_RECORDING) -> None:
        """``largest``: bytes; a larger recording is not attached."""
        self._paths = paths
        self._largest = largest

    def load(self, file_path: str) -> Audio:
        """The recording at the switch's ``file_path``. Raises ``NotFound`` where it is not there, is empty, or still changes."""
        path = self._paths.local(file_path)
        try:
            # Neither a link nor a pipe that was put there since is opened or waited for.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"the recording cannot be read: {error.strerror}") from error
        with open(descriptor, "rb") as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise NotFound("the recording is not a file")
            if before.st_size == 0:
                raise RecordingEmpty
            if before.st_size > self._largest:
                return Audio(
                    path.name, None, f"The recording is not attached: it is too large to be mailed ({_megabytes(before)})."
                )
            try:
                content = file.read(self._largest + 1)
            except OSError as error:
                raise NotFound(f"the recording cannot be read: {error.strerror}") from error
            after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns, len(content)) != (after.st_size, after.st_mtime_ns, after.st_size):
            raise NotFound("the recording is still being written")
        return Audio(path.name, content)

    def gone(self, file_path: str) -> bool:
        """Whether a recording has certainly been removed: it is not there, and the folder it was in is.

        Raises ``Unavailable`` where that folder cannot be read, as with a disk that is not mounted, and ``NotFound`` for a path
        outside the recordings folder.
        """
        path = self._paths.local(file_path)
        try:
            os.stat(path.parent)
            os.lstat(path)
        except FileNotFoundError as error:
            if error.filename == str(path):
                return True
            raise Unavailable("the folder of the recording is not there") from error
        except OSError as error:
            raise Unavailable(f"the recording cannot be looked for: {error.strerror}") from error
        return False

    def exists(self, file_path: str) -> bool:
        """Whether there is anything at the switch's ``file_path``, as far as this process may look."""
        try:
            return self._paths.local(file_path).exists()
        except (NotFound, OSError):
            return False


def _megabytes(facts: os.stat_result) -> str:
    return f"{facts.st_size / 1_000_000:.1f} MB"
