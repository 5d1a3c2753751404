"""A program that converts one recording from standard input to output: ``python -m … wav|mp3|ogg|peaks SUFFIX``.

Both are files. It runs for one recording because a decoder that reads what strangers sent may crash, hang or take all memory;
killing it ends a conversion at any point. It exits with 65 if the input is no audio that it can read.
"""

import array
import contextlib
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from app.recordings.audio.kinds import HEAD, UNKNOWN, media_type
from app.recordings.audio.peaks import A_SECOND, packed
from app.recordings.wav import WavData, wav_data

NOT_AUDIO = 65  # EX_DATAERR
ALIVE, SECONDS, LARGEST, MEMORY = 90, 60, 512 * 1024 * 1024, 1536 * 1024 * 1024
_BLOCK = 16384  # frames
_PIECE = 1024 * 1024  # bytes
_RAW: dict[str, tuple[str, int]] = {
    ".ul": ("ULAW", 8000), ".ulaw": ("ULAW", 8000), ".al": ("ALAW", 8000), ".alaw": ("ALAW", 8000), ".gsm": ("GSM610", 8000),
    ".vox": ("VOX_ADPCM", 8000), ".sln": ("PCM_16", 8000), ".raw": ("PCM_16", 8000), ".r8": ("PCM_16", 8000),
    ".r16": ("PCM_16", 16000), ".r24": ("PCM_16", 24000), ".r32": ("PCM_16", 32000),
}  # fmt: skip
_BIT_RATES = ((8000, 24), (16000, 32), (24000, 48), (96000, 64))  # kbit/s a channel, up to this rate


def _put_right(descriptor: int, found: WavData) -> int:
    """A copy of a WAV file, in memory, whose header tells the truth: the real one's may be unfinished or lie about its length.

    The library could call functions of ours to read it, but that takes memory that is both written and run, which the systemd
    unit forbids.
    """
    copy = os.memfd_create("wav", os.MFD_CLOEXEC)
    length = min(found.length, LARGEST)
    riff = struct.pack("<4sI4s4sI", b"RIFF", 28 + len(found.format) + length, b"WAVE", b"fmt ", len(found.format))
    _write(copy, riff + found.format + struct.pack("<4sI", b"data", length))
    at, end = found.start, found.start + length
    while at < end and (piece := os.pread(descriptor, min(_PIECE, end - at), at)):
        _write(copy, piece)
        at += len(piece)
    os.lseek(copy, 0, os.SEEK_SET)
    return copy


def _soundfile() -> Any:
    """The library without numpy: loading that takes longer than most conversions, and its arrays are not used here."""

    class Anything:
        def __class_getitem__(cls, _item: object) -> type:
            return cls

    stub = ModuleType("numpy")
    for name in ("ndarray", "dtype", "float32", "float64", "int16", "int32"):
        setattr(stub, name, Anything)
    sys.modules["numpy"] = stub
    try:
        import soundfile
    except Exception:  # noqa: BLE001 - a release of it that wants more of numpy
        for name in ("numpy", "soundfile"):
            sys.modules.pop(name, None)
        import soundfile
    return soundfile


def _opened(soundfile: Any, descriptor: int, suffix: str) -> Any:
    """The recording, ready to be read. Raises the library's error."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    head = os.pread(descriptor, HEAD, 0)
    kind = media_type(head, suffix)
    if kind == "audio/wav":
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            found = wav_data(file, os.fstat(descriptor).st_size)
        if found is None:
            raise ValueError("no samples")
        os.lseek(descriptor, 0, os.SEEK_SET)  # the library begins where the file stands
        # The library takes the byte that pads an odd length for a block of GSM, which is a crack.
        if found.length != found.declared or found.start + found.length != os.fstat(descriptor).st_size:
            return soundfile.SoundFile(_put_right(descriptor, found))
    if suffix in _RAW and kind in (UNKNOWN, "audio/basic", "audio/x-alaw-basic", "audio/x-gsm") and head[:4] != b".snd":
        subtype, rate = _RAW[suffix]
        return soundfile.SoundFile(os.dup(descriptor), samplerate=rate, channels=1, format="RAW", subtype=subtype)
    return soundfile.SoundFile(os.dup(descriptor))


def _blocks(soundfile: Any, sound: Any) -> Iterator[bytes]:
    """The samples, 16 bits each, up to the end or the first damage.

    The library's own methods seek after each block, and fail for files whose last block is short.
    """
    library, ffi, handle, channels = soundfile._snd, soundfile._ffi, sound._file, sound.channels
    if sound.subtype in ("FLOAT", "DOUBLE"):  # the library cuts samples of -1.0 to 1.0 to whole numbers
        floats = ffi.new("float[]", _BLOCK * channels)
        while (frames := library.sf_readf_float(handle, floats, _BLOCK)) > 0:
            values = array.array("f", bytes(ffi.buffer(floats, frames * channels * 4)))
            yield array.array("h", (_whole(value) for value in values)).tobytes()
        return
    block = ffi.new("short[]", _BLOCK * channels)
    while (frames := library.sf_readf_short(handle, block, _BLOCK)) > 0:
        yield bytes(ffi.buffer(block, frames * channels * 2))


def _whole(value: float) -> int:
    return int(min(max(value, -1.0), 1.0) * 32767) if value == value else 0  # noqa: PLR0124 - not a number


def _to_wav(soundfile: Any, sound: Any, output: int) -> None:
    frame, total = 2 * sound.channels, 0
    os.lseek(output, 44, os.SEEK_SET)
    for block in _blocks(soundfile, sound):
        _write(output, block)
        total += len(block)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + total, b"WAVE", b"fmt ", 16, 1, sound.channels, sound.samplerate,
        sound.samplerate * frame, frame, 16, b"data", total,
    )  # fmt: skip
    os.pwrite(output, head, 0)


def _to_mp3(soundfile: Any, sound: Any, output: int) -> None:
    import lameenc

    encoder = lameenc.Encoder()
    encoder.set_bit_rate(next(rate for most, rate in _BIT_RATES if sound.samplerate <= most) * sound.channels)
    encoder.set_in_sample_rate(sound.samplerate)
    encoder.set_channels(sound.channels)
    encoder.set_quality(5)
    encoder.silence()
    for block in _blocks(soundfile, sound):
        _write(output, encoder.encode(block))
    _write(output, encoder.flush())


def _to_ogg(soundfile: Any, sound: Any, output: int) -> None:
    # Vorbis, not Opus: a sixth of the time, and it takes any sample rate.
    with soundfile.SoundFile(
        os.dup(output), "w", samplerate=sound.samplerate, channels=sound.channels, format="OGG", subtype="VORBIS"
    ) as target:
        for block in _blocks(soundfile, sound):
            target.buffer_write(block, dtype="int16")


def _to_peaks(soundfile: Any, sound: Any, output: int) -> None:
    step = max(sound.samplerate // A_SECOND, 1) * sound.channels
    samples, frames, peaks = array.array("h"), 0, array.array("H")

    def take(most: int) -> None:
        for at in range(0, most, step):
            window = samples[at : at + step]
            loudest, quietest = max(window), min(window)
            peaks.append(max(loudest, -quietest))

    for block in _blocks(soundfile, sound):
        samples.frombytes(block)
        frames += len(block) // (2 * sound.channels)
        whole = len(samples) // step * step
        take(whole)
        del samples[:whole]
    take(len(samples))
    _write(output, packed(frames / sound.samplerate, sound.samplerate / (step // sound.channels), peaks))


def _write(output: int, data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(output, left) :]


_WRITERS: dict[str, Callable[[Any, Any, int], None]] = {"wav": _to_wav, "mp3": _to_mp3, "ogg": _to_ogg, "peaks": _to_peaks}


def _limit() -> None:
    """Go behind whoever answers requests, and end before anything is exhausted, also without a parent."""
    signal.alarm(ALIVE)
    for limit, value in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, LARGEST),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
    ):
        # The system may forbid it, as the filter of the systemd unit does: then the alarm and the unit are what limits.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    with contextlib.suppress(OSError):
        os.nice(10)


def main(kind: str, suffix: str) -> int:
    """Convert standard input."""
    _limit()
    soundfile = _soundfile()
    try:
        sound = _opened(soundfile, 0, suffix)
    except Exception:  # noqa: BLE001 - whatever it says, this is no audio
        return NOT_AUDIO
    if not (1 <= sound.channels <= 2 and 1000 <= sound.samplerate <= 96000):
        return NOT_AUDIO
    _WRITERS[kind](soundfile, sound, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2].lower()))
