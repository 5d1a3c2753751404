"""How long a WAV file really plays: its data is counted, because its header is often wrong or was never finished."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WavFacts:
    """What a WAV file holds."""

    duration: float  # seconds
    codec: str  # such as pcm_s16le, pcm_mulaw, gsm_ms
    sample_rate: int
    channels: int


def read_wav(path: Path) -> WavFacts | None:
    """The facts of a WAV file of any length, reading little of it; None for any other format. Raises ``OSError``."""
    raise OSError(str(path))
