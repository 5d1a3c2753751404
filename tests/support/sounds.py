"""Recordings as switches write them, made by libsndfile: a tone of half the loudness."""

import array
import io
import math
import struct
from functools import cache
from pathlib import Path

SAMPLE = next((Path(__file__).parents[2] / "app/sandbox/recordings").glob("*.wav"))
_FORMATS = {
    "ulaw": ("WAV", "ULAW"), "alaw": ("WAV", "ALAW"), "gsm": ("WAV", "GSM610"), "ima": ("WAV", "IMA_ADPCM"), "float": ("WAV", "FLOAT"),
    "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "au": ("AU", "ULAW"), "aiff": ("AIFF", "PCM_16"),
    "raw.ul": ("RAW", "ULAW"), "raw.al": ("RAW", "ALAW"), "raw.gsm": ("RAW", "GSM610"), "raw.sln": ("RAW", "PCM_16"),
}  # fmt: skip


@cache
def tone(seconds: float) -> bytes:
    """440 Hz, 8000 samples a second."""
    return array.array("h", [int(16384 * math.sin(n * 0.3456)) for n in range(int(8000 * seconds))]).tobytes()


@cache
def wav(seconds: float) -> bytes:
    """A WAV file as FreeSWITCH writes it."""
    data = tone(seconds)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", len(data)
    )
    return head + data


@cache
def in_format(codec: str, seconds: float = 0.5) -> bytes:
    """The tone in another format."""
    import soundfile

    kind, subtype = _FORMATS[codec]
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", samplerate=8000, channels=1, format=kind, subtype=subtype) as sound:
        if subtype == "FLOAT":
            floats = array.array("f", [value / 32768 for value in array.array("h", tone(seconds))])
            soundfile._snd.sf_writef_float(sound._file, soundfile._ffi.from_buffer("float[]", floats), len(floats))
        else:
            block = soundfile._ffi.from_buffer("short[]", tone(seconds))
            soundfile._snd.sf_writef_short(sound._file, block, len(block))
    return file.getvalue()
