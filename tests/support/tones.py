"""Audio of known frequencies, and how much of a frequency is in a recording."""

import io
import math
import struct
import wave
from array import array
from pathlib import Path

RATE = 8000


def tone(hertz: int, seconds: float = 1.0, *, rate: int = RATE, channels: int = 1) -> bytes:
    """A WAV file of a pure tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as target:
        target.setnchannels(channels)
        target.setsampwidth(2)
        target.setframerate(rate)
        samples = (int(9000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(rate * seconds)))
        target.writeframes(b"".join(struct.pack("<h", sample) * channels for sample in samples))
    return file.getvalue()


def encoded(audio: bytes, form: str, subtype: str) -> bytes:
    """A WAV file in another format of libsndfile."""
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(audio))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def facts(audio: bytes) -> tuple[int, int, int, float]:
    """Channels, bytes a sample, rate and seconds of a WAV file."""
    with wave.open(io.BytesIO(audio)) as file:
        return file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes() / file.getframerate()


def seconds_of(audio: bytes | Path, hertz: int) -> float:
    """How many seconds of a WAV file of 8 kHz are mostly this tone (Goertzel over windows of 100 ms)."""
    with wave.open(io.BytesIO(audio) if isinstance(audio, bytes) else str(audio)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        samples = array("h", file.readframes(file.getnframes()))
    width = RATE // 10
    windows = [samples[start : start + width] for start in range(0, len(samples) - width + 1, width)]
    return sum(_share(window, hertz) > 0.6 for window in windows) / 10


def _share(window: "array[int]", hertz: int) -> float:
    """The part of a window's energy that is at a frequency; 0 for silence."""
    energy = sum(sample * sample for sample in window)
    if energy < 10_000 * len(window):
        return 0.0
    factor = 2 * math.cos(2 * math.pi * hertz / RATE)
    one = two = 0.0
    for sample in window:
        one, two = sample + factor * one - two, one
    power = one * one + two * two - factor * one * two
    return 2 * power / (len(window) * energy)
