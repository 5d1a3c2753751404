"""Writes tones as sound prompts for a lab switch that has none: without prompts a call ends before it is recorded.

``python -m app.sandbox.prompts FOLDER`` writes the ones that are missing; FOLDER is the sound prefix, such as
``/usr/share/freeswitch/sounds/en/us/callie``.
"""

import math
import struct
import sys
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

_RATE = 8000  # samples a second
_SECONDS = 0.25
_LOUDNESS = 6000
_RAMP = 80  # samples over which a tone comes and goes, so that it does not click

_PHRASES = """
    abort advanced change_password choose_greeting choose_greeting_choose choose_greeting_fail continue delete_recording
    deleted emailed enter_id enter_pass fail_auth followed_by forward_add_intro forward_enter_ext goodbye greeting
    listen_new listen_saved listen_to_recording mailbox_full main_menu mark-urgent marked-urgent message message_from
    message_number messages new not_available password_has_been_changed password_not_valid person press record_greeting
    record_message record_name1 record_name2 rerecord return_call save_recording saved selected send_message_now
    that_was_an_invalid_ext to_exit to_forward to_record_greeting too-small undeleted urgent-new urgent-saved you_have
"""
_TIMES = "a-m at hour hours minute minutes oclock oh p-m second seconds today yesterday"


def names() -> Iterator[str]:
    """Every prompt that the lab's phrases can ask for, without ``.wav``."""
    yield from (f"voicemail/vm-{phrase}" for phrase in _PHRASES.split())
    yield "ivr/ivr-anonymous_caller"
    yield from (f"digits/{number}" for number in (*range(21), *range(30, 100, 10), "hundred", "thousand", "million", "dot"))
    yield from (f"digits/h-{number}" for number in (*range(1, 21), 30))
    yield from (f"ascii/{code}" for code in range(32, 127))
    yield from (f"time/{word}" for word in _TIMES.split())
    yield from (f"time/day-{day}" for day in range(7))
    yield from (f"time/mon-{month}" for month in range(12))


def write_prompts(folder: Path) -> int:
    """Write the prompts that ``folder`` has not got, also not in a ``8000`` folder of its own; returns how many."""
    written = 0
    for name in names():
        path = folder / f"{name}.wav"
        if path.exists() or (path.parent / "8000" / path.name).exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_tone(path, 350 + zlib.crc32(name.encode()) % 450)
        written += 1
    return written


def _write_tone(path: Path, hertz: int) -> None:
    samples = int(_RATE * _SECONDS)
    loudness = (_LOUDNESS * min(1.0, n / _RAMP, (samples - n) / _RAMP) for n in range(samples))
    tone = (int(level * math.sin(2 * math.pi * hertz * n / _RATE)) for n, level in enumerate(loudness))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(b"".join(struct.pack("<h", value) for value in tone))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m app.sandbox.prompts FOLDER")
    print(f"{write_prompts(Path(sys.argv[1]))} prompts written to {sys.argv[1]}")
