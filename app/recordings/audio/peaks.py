"""The loudness of a recording over time, as a picture needs it: kept fine, folded into as many points as a client asks for."""

import struct
from array import array
from dataclasses import dataclass

A_SECOND = 100  # fine peaks
MOST_POINTS = 2000
_HEAD = struct.Struct("<dd")  # the duration, and how many peaks a second there are


@dataclass(frozen=True, slots=True)
class Waveform:
    """``peaks`` are the loudest samples of equal parts of the recording, from 0 to 1."""

    peaks: list[float]
    duration: float  # seconds


def packed(duration: float, a_second: float, peaks: "array[int]") -> bytes:
    """The form in which fine peaks are kept."""
    return _HEAD.pack(duration, a_second) + peaks.tobytes()


def folded(content: bytes, points: int) -> Waveform:
    """The waveform with exactly so many points; none if there is no sound at all."""
    duration, a_second = _HEAD.unpack_from(content)
    fine = array("H")
    fine.frombytes(content[_HEAD.size :])
    if not fine or duration <= 0:
        return Waveform([], 0.0)
    count = min(duration * a_second, len(fine))
    peaks = []
    for point in range(points):
        first = min(int(point * count / points), len(fine) - 1)
        last = max(int((point + 1) * count / points), first + 1)
        peaks.append(round(min(max(fine[first:last]) / 32767, 1.0), 4))
    return Waveform(peaks, round(duration, 3))
