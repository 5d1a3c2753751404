"""What counts as a recording of a message, and what the index keeps of one."""

from dataclasses import dataclass
from pathlib import PurePosixPath

# What a profile's file-extension may be. Greetings (greeting_1.wav), recorded_name.wav and temporary files are no messages.
SUFFIXES = frozenset(
    (".wav", ".mp3", ".ogg", ".oga", ".opus", ".gsm", ".ul", ".ulaw", ".al", ".alaw", ".au", ".aif", ".aiff", ".flac", ".m4a",
     ".mp4", ".caf", ".sln", ".raw", ".r8", ".r16", ".r24", ".r32", ".w64", ".speex", ".vox")
)  # fmt: skip
LONGEST_PATH = 2000  # bytes; a longer one does not fit the index's key


def is_message_name(name: str) -> bool:
    """Whether a file of this name can be a message: ``msg_….wav`` or another known audio suffix."""
    return name.startswith("msg_") and PurePosixPath(name).suffix.lower() in SUFFIXES


def fits_index(path: str) -> bool:
    """Whether a path is UTF-8 and short enough for the index."""
    try:
        return len(path.encode()) <= LONGEST_PATH
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A message's file as a look at the disk saw it."""

    path: str  # relative to the recordings folder
    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Recording:
    """One row of the index."""

    path: str
    size: int
    mtime_ns: int
    duration: float | None  # seconds; None: not a format this service can read
    codec: str
    sample_rate: int | None
    channels: int | None
    sha256: bytes | None  # None: not computed, because the file is very large or its disk very slow, or cannot be read
    damage: str = ""  # why its facts are missing; "" if the file is whole, as far as this service can tell
