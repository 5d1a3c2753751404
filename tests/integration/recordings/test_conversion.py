"""The decoder's process: whatever becomes of it, the caller has an answer and nothing is left running."""

import asyncio
import os
from pathlib import Path

import pytest

from app.errors import Invalid, Unavailable
from app.recordings import conversion
from app.recordings.conversion import Conversion
from tests.support.tones import facts, seconds_of, tone


def children() -> set[str]:
    """The processes that this one started and that still are."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_a_tone_stays_that_tone() -> None:
    audio = await Conversion().convert(tone(1500, 0.5, rate=44_100, channels=2), longest=180)

    assert facts(audio.data) == (1, 2, 8000, audio.seconds)
    assert audio.seconds == pytest.approx(0.5, abs=0.01)
    assert seconds_of(audio.data, 1500) >= 0.4


async def test_the_longest_audio_is_taken_and_a_second_more_is_not() -> None:
    assert (await Conversion().convert(tone(700, 2.0), longest=2)).seconds == 2.0
    with pytest.raises(Invalid, match="at most 2 seconds"):
        await Conversion().convert(tone(700, 2.5), longest=2)


async def test_a_decoder_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (program := tmp_path / "hanging.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(conversion, "_DECODER", program)
    before = children()

    with pytest.raises(Invalid, match="too long to decode"):
        await Conversion(patience=0.5).convert(tone(700), longest=180)
    caller = asyncio.ensure_future(Conversion().convert(tone(700), longest=180))
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.wait({caller})

    assert children() <= before


@pytest.mark.parametrize(
    ("program", "error"),
    [("import os\nos.kill(os.getpid(), 11)\n", Invalid), ("import no_such_library\n", Unavailable)],
    ids=["crash", "library"],
)
async def test_a_decoder_that_crashes_or_is_not_installed_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, error: type[Exception]
) -> None:
    (path := tmp_path / "broken.py").write_text(program)
    monkeypatch.setattr(conversion, "_DECODER", path)

    with pytest.raises(error):
        await Conversion().convert(tone(700), longest=180)
