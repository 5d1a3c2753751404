"""Audio that a client sends, converted to what the switch plays: a WAV file of 8 kHz, one channel and 16 bits.

A child process decodes (``decoder``): what hangs, crashes or eats memory there is killed, and the loop never waits.
"""

import asyncio
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.errors import Invalid, Unavailable

log = structlog.get_logger(__name__)

LARGEST_UPLOAD = 10 * 1024 * 1024  # bytes
TYPES = ("audio/wav", "audio/mpeg", "audio/ogg")  # for OpenAPI; what a file is, its first bytes say
RATE = 8000  # samples a second
_NOT_AUDIO = 3  # the decoder's exit status; its module is not imported, because its libraries are for the child alone
_DECODER = Path(__file__).parent / "decoder.py"
_PATIENCE = 30.0  # seconds
_AT_ONCE = 2
_WIDTH = 2  # bytes of a sample
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


@dataclass(frozen=True, slots=True)
class PlainAudio:
    """A whole WAV file as the switch itself writes it."""

    data: bytes
    seconds: float


class Conversion:
    """Converts uploads, a few at once in a process."""

    def __init__(self, *, patience: float = _PATIENCE) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._patience = patience

    async def convert(self, data: bytes, *, longest: int) -> PlainAudio:
        """The audio of a WAV, MP3 or Ogg file of at most ``longest`` seconds. Raises ``Invalid`` for anything else."""
        if not data:
            raise Invalid.field("body", "is empty: send the audio as it is")
        async with self._turns:
            status, samples = await self._decode(data, longest)
        samples = samples[: len(samples) // _WIDTH * _WIDTH]
        if status > 0 and status != _NOT_AUDIO:
            log.error("decoder_failed", status=status)
            raise Unavailable("this service's audio decoder does not run")
        if status or not samples:
            raise Invalid.field("body", "is not audio that can be read: send WAV, MP3 or Ogg (Vorbis or Opus)")
        if len(samples) > longest * RATE * _WIDTH:
            raise Invalid.field("body", f"must be at most {longest} seconds of audio")
        return PlainAudio(_wav(samples), len(samples) / (RATE * _WIDTH))

    async def _decode(self, data: bytes, longest: int) -> tuple[int, bytes]:
        """The decoder's exit status, negative if a signal ended it, and its samples."""
        # -I: neither the folder of the program nor the user's environment adds modules.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(_DECODER), str(longest),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._patience):
                samples, _ = await child.communicate(data)
        except TimeoutError:
            raise Invalid.field("body", "takes too long to decode") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert child.returncode is not None
        return child.returncode, samples


def _wav(samples: bytes) -> bytes:
    head = _HEADER.pack(
        b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE * _WIDTH, _WIDTH, 8 * _WIDTH, b"data", len(samples)
    )
    return head + samples
