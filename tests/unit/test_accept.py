"""Which media type a client prefers, as RFC 9110 12.5.1 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.accept import preferred

OFFERS = ("audio/wav", "audio/mpeg", "audio/ogg")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "audio/wav"),
        ("*/*", "audio/wav"),
        ("audio/*;q=0.1", "audio/wav"),
        ("audio/mpeg", "audio/mpeg"),
        ("AUDIO/MPEG", "audio/mpeg"),
        ("audio/mp3", "audio/mpeg"),
        ("audio/ogg;q=0.8, audio/mpeg;q=0.7", "audio/ogg"),
        ("audio/ogg; q=0.2, audio/*", "audio/wav"),
        ("audio/wav;q=0, */*;q=0.1", "audio/mpeg"),
        ("audio/ogg;codecs=vorbis", "audio/ogg"),
        ("audio/mpeg;q=0", "audio/wav"),
        ("audio/mpeg;q=2, audio/ogg;q=0.001", "audio/ogg"),
        ("text/html, application/json", "audio/wav"),
        ("audio/webm,audio/ogg,audio/wav,audio/*;q=0.9,application/ogg;q=0.7,video/*;q=0.6,*/*;q=0.5", "audio/wav"),
        ("rubbish, audio/mpeg", "audio/mpeg"),
    ],
)
def test_the_best_offer_is_chosen(header: str, expected: str) -> None:
    assert preferred([header] if header else [], OFFERS) == expected


def test_headers_are_one_list() -> None:
    assert preferred(["audio/wav;q=0.5", "audio/ogg"], OFFERS) == "audio/ogg"


@given(st.lists(st.text(max_size=60), max_size=4))
def test_whatever_is_sent_an_offer_is_chosen(headers: list[str]) -> None:
    assert preferred(headers, OFFERS) in OFFERS


@given(st.permutations(OFFERS), st.lists(st.integers(0, 1000), min_size=3, max_size=3))
def test_no_offer_of_a_lower_quality_is_chosen(order: list[str], thousandths: list[int]) -> None:
    qualities = dict(zip(OFFERS, thousandths, strict=True))
    header = ", ".join(f"{name};q={qualities[name] / 1000:.3f}" for name in order)

    chosen = preferred([header], OFFERS)

    if any(thousandths):
        assert qualities[chosen] == max(thousandths)
        assert chosen == next(name for name in OFFERS if qualities[name] == max(thousandths))
