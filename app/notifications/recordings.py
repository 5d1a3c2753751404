"""Reads the recording that goes with a mail. Everything here blocks: it runs in a thread."""

from app.errors import NotFound
from app.notifications.mail.compose import LARGEST_RECORDING, Audio
from app.recordings.storage import RecordingStorage


class RecordingEmpty(NotFound):
    """The recording is empty."""


class RecordingUnreadable(NotFound):
    """The recording's disk fails."""


class Recordings:
    """Recordings as attachments, named by the switch's ``file_path``."""

    def __init__(self, storage: RecordingStorage, *, largest: int = LARGEST_RECORDING) -> None:
        """``largest``: bytes; a larger recording is not attached."""
        self._storage = storage
        self._largest = largest

    def load(self, file_path: str) -> Audio:
        """The recording. Raises ``NotFound`` if it is not there, is no file, is empty, still changes, or its disk fails."""
        with self._storage.open(self._storage.key(file_path)) as recording:
            size = recording.opened.size
            if size == 0:
                raise RecordingEmpty
            if size > self._largest:
                why = f"The recording is not attached: it is too large to be mailed ({size / 1_000_000:.1f} MB)."
                return Audio(recording.name, None, why)
            try:
                content = recording.read(0, size + 1)
            except OSError as error:
                raise RecordingUnreadable(f"the recording cannot be read: {error.strerror}") from error
            if recording.stat() != recording.opened or len(content) != size:
                raise NotFound("the recording is still being written")
            return Audio(recording.name, content)

    def gone(self, file_path: str) -> bool:
        """Whether the recording has certainly been removed. Raises as ``RecordingStorage.gone`` does."""
        return self._storage.gone(self._storage.key(file_path))
