"""The formats that a recording can be converted to, and what a file is by its first bytes. The name alone proves nothing."""

from enum import StrEnum
from pathlib import PurePosixPath

HEAD = 32  # bytes that ``media_type`` looks at
UNKNOWN = "application/octet-stream"


class Kind(StrEnum):
    """A format that every client plays at least one of."""

    WAV = "wav"  # 16-bit PCM
    MP3 = "mp3"
    OGG = "ogg"  # Vorbis

    @property
    def media_type(self) -> str:
        """Its media type."""
        return _TYPES[self]


_TYPES = {Kind.WAV: "audio/wav", Kind.MP3: "audio/mpeg", Kind.OGG: "audio/ogg"}
# Raw samples begin with no mark of their format.
_HEADERLESS = {
    ".ul": "audio/basic", ".ulaw": "audio/basic", ".al": "audio/x-alaw-basic", ".alaw": "audio/x-alaw-basic",
    ".gsm": "audio/x-gsm",
}  # fmt: skip
_MARKS = (
    (b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"), (b".snd", "audio/basic"), (b"ID3", "audio/mpeg"), (b"caff", "audio/x-caf"),
    (b"riff\x2e\x91\xcf\x11", "audio/x-w64"),
)  # fmt: skip
MEDIA_TYPES = (
    *_TYPES.values(), "audio/aiff", "audio/basic", "audio/flac", "audio/mp4", "audio/x-alaw-basic", "audio/x-caf", "audio/x-gsm",
    "audio/x-w64", UNKNOWN,
)  # fmt: skip
"""Every media type that a download may have."""


def media_type(head: bytes, name: str) -> str:
    """The media type of a file that begins with ``head``. Only for raw samples the name's suffix decides."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    if (found := next((kind for mark, kind in _MARKS if head.startswith(mark)), None)) is not None:
        return found
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".mp3" and len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
        return "audio/mpeg"  # an MPEG audio frame
    return _HEADERLESS.get(suffix, UNKNOWN)


def renamed(name: str, kind: Kind) -> str:
    """The file's name with the suffix of a format."""
    return f"{PurePosixPath(name).stem}.{kind}"
