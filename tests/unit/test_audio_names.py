"""Names of recordings in a ZIP, kinds of files by their content, and waveforms in as many points as are wanted."""

import array
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages.model import Message
from app.messages.selection import Names, described
from app.recordings.audio.kinds import Kind, media_type, renamed
from app.recordings.audio.peaks import MOST_POINTS, folded, packed
from app.switch.tables.model import MessageRow

AT = datetime(2026, 11, 25, 9, 30)  # noqa: DTZ001 - shown as it is


def left_by(name: str, number: str, seconds: int = 7) -> Message:
    row = MessageRow("lab.local", "101", "u", "/x/msg_1.wav", name, number, 0, 0, seconds, "")
    return Message(UUID(int=1), row)


@pytest.mark.parametrize(("name", "number", "expected"), [
    ("Alice", "0891234567", "2026-11-25 0930 0891234567 Alice 7s"), ("089", "089", "2026-11-25 0930 089 7s"), ("", "", "2026-11-25 0930 7s"),
    ("../..", "..", "2026-11-25 0930 7s"), ("A/B\\C", "+49 30", "2026-11-25 0930 +49 30 A_B_C 7s"), ("Zoë 🎉", "1", "2026-11-25 0930 1 Zoë 🎉 7s"),
    ("a\r\nb", "1\t2", "2026-11-25 0930 1 2 a b 7s"), ("\u202egnp.exe", "1", "2026-11-25 0930 1 gnp.exe 7s"),
])  # fmt: skip
def test_a_name_tells_when_and_who(name: str, number: str, expected: str) -> None:
    assert described(left_by(name, number), AT) == expected


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), min_size=1, max_size=5), st.text(max_size=10))
def test_whatever_the_callers_sent_the_names_are_safe_and_different(callers: list[tuple[str, str]], suffix: str) -> None:
    names = Names()

    taken = [names.take(described(left_by(*caller), AT), suffix) for caller in callers * 2]

    assert len({name.casefold() for name in taken}) == len(taken)
    for name in taken:
        assert len(name.encode()) <= 140
        assert name.isprintable() or "\u200c" in name or "\u200d" in name or not name.isascii()
        assert not set(name) & set('/\\:*?"<>|\0\r\n')
        assert name.startswith("2026-11-25 0930")
        assert not name.endswith((".", " "))


@given(st.binary(max_size=64), st.text(max_size=20))
def test_any_content_has_a_media_type(head: bytes, name: str) -> None:
    assert "/" in media_type(head, name)


def test_a_converted_file_has_its_format_s_suffix() -> None:
    assert renamed("msg_1.tar.wav", Kind.MP3) == "msg_1.tar.mp3"
    assert renamed(".wav", Kind.OGG) == ".wav.ogg"


@given(st.lists(st.integers(0, 32768), max_size=300), st.integers(1, MOST_POINTS))
def test_a_waveform_has_exactly_the_points_and_the_loudest_of_all(fine: list[int], points: int) -> None:
    waveform = folded(packed(len(fine) / 100, 100.0, array.array("H", fine)), points)

    if not fine:
        assert waveform.peaks == []
    else:
        assert len(waveform.peaks) == points
        assert all(0 <= peak <= 1 for peak in waveform.peaks)
        if points <= len(fine):
            assert max(waveform.peaks) == round(min(max(fine) / 32767, 1), 4)
