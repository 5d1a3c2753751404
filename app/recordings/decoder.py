"""Decodes one audio file to 8 kHz mono 16-bit samples; a program of its own, because C decoders meet hostile files here.

``python -I decoder.py SECONDS``: the file comes on standard input and the samples go to standard output, at most one second more
than asked for. ``conversion`` starts it; it imports nothing of this service.
"""

import io
import os
import resource
import sys
import wave
from collections.abc import Iterator
from contextlib import suppress

import miniaudio
import soundfile

RATE = 8000
NOT_AUDIO = 3  # the exit status for a file that cannot be decoded
_MEMORY = 1 << 30  # bytes of address space
_CPU = 20  # seconds
_LARGEST = 256 << 20  # bytes of samples at a file's own rate
_BLOCK = RATE  # frames


class NotAudio(Exception):
    """The file is none of WAV, MP3 and Ogg, or it is damaged."""


def kind(data: bytes) -> str:
    """What the first bytes say: a name and a Content-Type prove nothing. Raises ``NotAudio``."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"OggS":
        return "ogg"
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0):
        return "mp3"
    raise NotAudio


def decode(data: bytes, seconds: int) -> Iterator[bytes]:
    """Blocks of samples, until the file ends or has given one second more than ``seconds``. Raises ``NotAudio``."""
    form = kind(data)
    try:
        yield from _samples(data, seconds)
    except miniaudio.DecodeError:
        if form == "mp3":
            raise NotAudio from None
        # Opus in Ogg, GSM in WAV.
        yield from _samples(_as_plain_wav(data, seconds), seconds)


def _samples(data: bytes, seconds: int) -> Iterator[bytes]:
    left = (seconds + 1) * RATE
    stream = miniaudio.stream_memory(data, miniaudio.SampleFormat.SIGNED16, nchannels=1, sample_rate=RATE, frames_to_read=_BLOCK)
    for block in stream:
        yield block[:left].tobytes()
        left -= len(block)
        if left <= 0:
            return


def _as_plain_wav(data: bytes, seconds: int) -> bytes:
    # Not from memory: soundfile then calls back by code that it makes, which systemd's MemoryDenyWriteExecute forbids.
    descriptor = os.memfd_create("audio")
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with soundfile.SoundFile(descriptor) as source:
        rate, channels = source.samplerate, source.channels
        left = (seconds + 1) * rate
        if not 1000 <= rate <= 192_000 or channels > 8 or left * channels * 2 > _LARGEST:
            raise NotAudio
        target = io.BytesIO()
        with wave.open(target, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            block = bytearray(2 * channels * _BLOCK)
            while left > 0 and (frames := source.buffer_read_into(block, dtype="int16")):
                file.writeframes(block[: 2 * channels * frames])
                left -= frames
    return target.getvalue()


def main() -> int:
    """Decode standard input."""
    for limit, value in ((resource.RLIMIT_CPU, _CPU), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        # A lower one may be set already, or systemd may forbid it; ``conversion`` has a time limit of its own.
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    try:
        for block in decode(sys.stdin.buffer.read(), int(sys.argv[1])):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
    except Exception:  # noqa: BLE001 - the libraries raise whatever they like
        return NOT_AUDIO
    return 0


if __name__ == "__main__":
    sys.exit(main())
