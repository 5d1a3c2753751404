"""Durations of WAV files as they really are found on a switch."""

import io
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.recordings.wav import WavFacts, read_wav, wav_facts

RECORDINGS = Path(__file__).parents[2] / "app" / "sandbox" / "recordings"
REAL = {
    "msg_1b3a1aaa-dc37-49a7-b048-45dfc10abec6.wav": 18.9,
    "msg_ec3e1941-405a-479e-b1e1-fb3cb69ef20c.wav": 10.4,
}


def chunk(name: bytes, content: bytes, *, length: int | None = None, pad: bool = True) -> bytes:
    """A RIFF chunk; ``length`` is what its header claims."""
    claimed = len(content) if length is None else length
    return name + struct.pack("<I", claimed) + content + (b"\0" if pad and len(content) % 2 else b"")


def fmt(tag: int = 1, channels: int = 1, rate: int = 8000, align: int = 2, bits: int = 16, extra: bytes = b"") -> bytes:
    """A format chunk."""
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align % 2**32, align, bits) + extra)


def riff(*chunks: bytes, length: int | None = None) -> bytes:
    """A RIFF file of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


def facts(content: bytes) -> WavFacts | None:
    """What the reader makes of these bytes."""
    return wav_facts(io.BytesIO(content), len(content))


def seconds(content: bytes) -> float:
    """The duration the reader finds."""
    found = facts(content)
    assert found is not None
    return found.duration


@pytest.mark.parametrize(("name", "duration"), REAL.items())
def test_a_recording_of_a_real_switch_has_its_duration(name: str, duration: float) -> None:
    assert read_wav(RECORDINGS / name) == WavFacts(duration, "pcm_s16le", 8000, 1)


@pytest.mark.parametrize(
    ("format_chunk", "a_second", "codec"),
    [
        (fmt(bits=8, align=1), 8000, "pcm_u8"),
        (fmt(), 16000, "pcm_s16le"),
        (fmt(channels=2, align=4), 32000, "pcm_s16le"),
        (fmt(bits=24, align=3), 24000, "pcm_s24le"),
        (fmt(bits=32, align=4), 32000, "pcm_s32le"),
        (fmt(tag=3, bits=32, align=4), 32000, "pcm_f32le"),
        (fmt(tag=3, bits=64, align=8), 64000, "pcm_f64le"),
        (fmt(tag=7, bits=8, align=1), 8000, "pcm_mulaw"),
        (fmt(tag=6, bits=8, align=1), 8000, "pcm_alaw"),
        (fmt(tag=49, bits=0, align=65, extra=struct.pack("<HH", 2, 320)), 1625, "gsm_ms"),
        (fmt(tag=17, bits=4, align=256, rate=505 * 16, extra=struct.pack("<HH", 2, 505)), 256 * 16, "adpcm_ima_wav"),
        (fmt(tag=2, bits=4, align=256, rate=500 * 16, extra=struct.pack("<HH", 32, 500)), 256 * 16, "adpcm_ms"),
        (fmt(tag=0xFFFE, extra=struct.pack("<HHI", 22, 16, 4) + b"\x01\0" + b"\0" * 14), 16000, "pcm_s16le"),
    ],
)
def test_every_codec_is_named_and_timed(format_chunk: bytes, a_second: int, codec: str) -> None:
    found = facts(riff(format_chunk, chunk(b"data", bytes(a_second * 3))))

    assert found is not None
    assert (found.codec, found.duration) == (codec, 3.0)


@pytest.mark.parametrize("claimed", [0, 0xFFFFFFFF, 0x7FFFFFFF, 48002])
def test_the_data_counts_and_not_the_length_in_the_header(claimed: int) -> None:
    assert seconds(riff(fmt(), chunk(b"data", bytes(48000), length=claimed))) == 3.0


def test_a_file_cut_short_is_as_long_as_what_is_left() -> None:
    whole = riff(fmt(), chunk(b"data", bytes(48000)))

    assert seconds(whole[: 44 + 16000]) == 1.0


def test_what_follows_the_data_is_not_played() -> None:
    assert seconds(riff(fmt(), chunk(b"data", bytes(16000)), chunk(b"LIST", bytes(4000)))) == 1.0


def test_a_recording_without_sound_and_a_comment_after_it_lasts_no_time() -> None:
    assert seconds(riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"INFO" + bytes(400)))) == 0.0


def test_a_header_without_data_lasts_no_time() -> None:
    assert seconds(riff(fmt(), chunk(b"data", b"", length=48000))) == 0.0
    assert seconds(riff(fmt())) == 0.0


@pytest.mark.parametrize("pad", [True, False])
def test_odd_chunks_before_the_data_are_stepped_over_padded_or_not(pad: bool) -> None:
    comment = chunk(b"LIST", b"INFO" + bytes(31), pad=pad)

    assert seconds(riff(fmt(), comment, chunk(b"data", bytes(16000)))) == 1.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"ID3\x04 not a wav at all",
        riff(chunk(b"data", bytes(100))),
        riff(fmt(channels=0), chunk(b"data", bytes(100))),
        riff(fmt(rate=0), chunk(b"data", bytes(100))),
        riff(fmt(tag=0x55), chunk(b"data", bytes(100))),
        riff(fmt(tag=17, align=0), chunk(b"data", bytes(100))),
        riff(chunk(b"fmt ", b"\x01\0"), chunk(b"data", bytes(100))),
    ],
)
def test_what_cannot_be_timed_is_not_guessed_at(content: bytes) -> None:
    assert facts(content) is None


def test_little_of_a_long_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "msg_long.wav"
    path.write_bytes(riff(fmt(), chunk(b"data", b"", length=0)))
    with path.open("r+b") as file:
        file.truncate(44 + 16000 * 3600 * 24)  # a sparse file: a whole day, no disk

    found = read_wav(path)

    assert found is not None
    assert found.duration == 24 * 3600.0


class Sparse(io.BytesIO):
    """A file that goes on with zeros."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def read(self, length: int | None = -1) -> bytes:
        assert length is not None
        assert 0 <= length <= 64
        zeros = max(min(length, self._size - self.tell()), 0)
        return super().read(length).ljust(zeros, b"\0")


wavs = st.builds(
    lambda parts, tail: riff(*parts) + tail,
    st.lists(
        st.one_of(
            st.builds(
                fmt,
                tag=st.sampled_from([0, 1, 2, 3, 6, 7, 17, 49, 0xFFFE, 0x55]),
                channels=st.integers(0, 0xFFFF),
                rate=st.one_of(st.integers(0, 96000), st.integers(0, 2**32 - 1)),
                align=st.integers(0, 6000).map(lambda align: align % 0x4000),
                bits=st.integers(0, 0xFFFF),
                extra=st.binary(max_size=30),
            ),
            st.builds(
                chunk,
                st.sampled_from([b"data", b"LIST", b"fmt ", b"\0\0\0\0"]),
                st.binary(max_size=300),
                length=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
                pad=st.booleans(),
            ),
        ),
        max_size=6,
    ),
    st.binary(max_size=20),
)


@given(st.one_of(st.binary(max_size=200), wavs, wavs.flatmap(lambda whole: st.integers(0, len(whole)).map(lambda n: whole[:n]))))
def test_no_bytes_at_all_upset_the_reader(content: bytes) -> None:
    found = facts(content)

    assert found is None or 0 <= found.duration <= 8 * 320 * len(content)


@given(wavs, st.one_of(st.just(0), st.integers(0, 2**63 - 1)))
def test_every_value_fits_its_column(content: bytes, hole: int) -> None:
    """Also if the file goes on with a hole of any size."""
    size = min(len(content) + hole, 2**63 - 1)
    found = wav_facts(Sparse(content, size), size)

    if found is not None:
        assert math.isfinite(found.duration)
        assert found.duration >= 0
        assert 0 < found.sample_rate < 2**31
        assert 0 < found.channels < 2**31
        assert found.codec.isidentifier()


def test_a_rate_that_no_column_holds_is_not_believed() -> None:
    assert facts(riff(fmt(rate=2**31 - 1), chunk(b"data", bytes(100)))) is not None
    assert facts(riff(fmt(rate=2**31), chunk(b"data", bytes(100)))) is None
