"""How long a WAV file really plays: its data is counted, because its header is often wrong or was never finished.

A switch that is recording has written 0 or 0xFFFFFFFF, or a length to come; one that was killed leaves the header as it was.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_EXTENSIBLE = 0xFFFE
_PCM = {8: "pcm_u8", 16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"}
_FLOAT = {32: "pcm_f32le", 64: "pcm_f64le"}
_BY_TAG = {2: "adpcm_ms", 6: "pcm_alaw", 7: "pcm_mulaw", 17: "adpcm_ima_wav", 49: "gsm_ms"}
_FASTEST = 2**31 - 1  # samples a second: what the index's column holds; more is no rate of anything
_MOST_CHUNKS = 1000  # before the data; more is no file that anybody wrote


@dataclass(frozen=True, slots=True)
class WavFacts:
    """What a WAV file holds."""

    duration: float  # seconds
    codec: str  # pcm_u8, pcm_s16le, pcm_mulaw, pcm_alaw, gsm_ms, adpcm_ima_wav, adpcm_ms and so on
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class WavData:
    """Where the samples of a WAV file are."""

    format: bytes  # of the ``fmt`` chunk
    start: int
    length: int  # bytes, counted
    declared: int  # bytes, as the header says

    @property
    def is_plain(self) -> bool:
        """Whether every player knows it: 16-bit PCM, and a header that tells the truth."""
        return self.format[:2] == b"\x01\x00" and self.format[14:16] == b"\x10\x00" and self.length == self.declared


@dataclass(frozen=True, slots=True)
class _Format:
    codec: str
    sample_rate: int
    channels: int
    block_bytes: int
    block_samples: int
    block_head: int  # bytes of a block that are its header, worth one sample or two

    def samples(self, data: int) -> int:
        """How many samples of a channel are in so many bytes."""
        blocks, rest = divmod(data, self.block_bytes)
        part = max(rest - self.block_head, 0) * self.block_samples // max(self.block_bytes - self.block_head, 1)
        return blocks * self.block_samples + min(part, self.block_samples)


def read_wav(path: Path) -> WavFacts | None:
    """The facts of a WAV file of any length, reading little of it; None for any other format. Raises ``OSError``."""
    with path.open("rb") as file:
        return wav_facts(file, os.fstat(file.fileno()).st_size)


def wav_facts(file: BinaryIO, size: int) -> WavFacts | None:
    """The facts of an open WAV file of ``size`` bytes; None for any other format."""
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return None
    found: _Format | None = None
    for name, start, length in _chunks(file, size):
        if name == b"fmt ":
            file.seek(start)
            found = _format(file.read(min(length, 64)))
        elif name == b"data" and found is not None:
            return _facts(found, _data_length(file, start, length, size))
    return _facts(found, 0) if found else None


def wav_data(file: BinaryIO, size: int) -> WavData | None:
    """Where the samples of an open WAV file of ``size`` bytes are; None if it has none."""
    file.seek(12)
    body: bytes | None = None
    for name, start, length in _chunks(file, size):
        if name == b"fmt ":
            file.seek(start)
            body = file.read(min(length, 64))
        elif name == b"data" and body is not None:
            return WavData(body[: len(body) // 2 * 2], start, _data_length(file, start, length, size), length)
    return None


def _facts(found: _Format, data: int) -> WavFacts:
    return WavFacts(found.samples(data) / found.sample_rate, found.codec, found.sample_rate, found.channels)


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, where its content starts, and how long its header says it is."""
    position = 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size:
            return
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        name, length = head[:4], int.from_bytes(head[4:], "little")
        yield name, position + 8, length
        position += 8 + length
        # Chunks begin at even places, though not every writer knows.
        if length % 2 and not _is_chunk(file, position, size):
            position += 1


def _is_chunk(file: BinaryIO, position: int, size: int) -> bool:
    file.seek(position)
    head = file.read(8)
    # Names are letters, digits and spaces; a padding byte is 0.
    plain = len(head) == 8 and all(byte == 0x20 or (byte < 0x80 and chr(byte).isalnum()) for byte in head[:4])
    return plain and (head[:4] == b"data" or position + 8 + int.from_bytes(head[4:], "little") <= size)


def _data_length(file: BinaryIO, start: int, length: int, size: int) -> int:
    """How many bytes of data there are, whatever the header says."""
    there = max(size - start, 0)
    if length == 0 and there and not _is_chunk(file, start, size):
        return there  # the length was to be written at the end, which never came
    return min(length, there)


def _format(body: bytes) -> _Format | None:
    """What a ``fmt`` chunk says; None if it is none that can be counted."""
    if len(body) < 16:
        return None
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = int.from_bytes(body[24:26], "little")
    if not channels or not 0 < rate <= _FASTEST:
        return None
    if tag in (1, 3):
        codec = (_PCM if tag == 1 else _FLOAT).get((bits + 7) // 8 * 8)
        return _Format(codec, rate, channels, channels * ((bits + 7) // 8), 1, 0) if codec else None
    if tag in (6, 7):
        return _Format(_BY_TAG[tag], rate, channels, channels, 1, 0)
    if tag == 49:
        return _Format(_BY_TAG[tag], rate, channels, 65, 320, 0)
    return _adpcm(tag, rate, channels, align) if tag in _BY_TAG else None


def _adpcm(tag: int, rate: int, channels: int, align: int) -> _Format | None:
    # Four bits a sample after a header a channel: one sample in four bytes (IMA), two in seven (Microsoft).
    head, first = (4 * channels, 1) if tag == 17 else (7 * channels, 2)
    if align <= head:
        return None
    return _Format(_BY_TAG[tag], rate, channels, align, (align - head) * 2 // channels + first, head)
