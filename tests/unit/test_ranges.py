"""The part that a Range header asks for, as RFC 9110 14 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.ranges import Part, Unsatisfiable, requested_part


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, 90),
        ("bytes=-10", 90, 10),
        ("bytes=-1000", 0, 100),
        ("bytes=99-99", 99, 1),
        ("bytes=50-1000", 50, 50),
        ("BYTES=0-0", 0, 1),
        ("bytes= 1-2 ", 1, 2),
    ],
)
def test_a_single_range_is_cut_to_the_body(header: str, start: int, length: int) -> None:
    assert requested_part(header, 100) == Part(start, length, 100)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=9-0",
        "items=0-1",
        "bytes=0-1,5-6",
        "bytes 0-1",
        "bytes=0-1\n",
        "bytes=٣-٤",
    ],
)
def test_what_cannot_be_answered_in_part_is_answered_whole(header: str | None) -> None:
    assert requested_part(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_outside_the_body_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        requested_part(header, 100)


def test_nothing_of_an_empty_body_can_be_asked_for() -> None:
    for header in ("bytes=0-", "bytes=0-0", "bytes=-5"):
        with pytest.raises(Unsatisfiable):
            requested_part(header, 0)


@given(st.one_of(st.text(max_size=40), st.from_regex(r"bytes=[0-9]{0,6}-[0-9]{0,6}", fullmatch=True)), st.integers(0, 10_000))
def test_a_part_always_lies_in_the_body(header: str, size: int) -> None:
    try:
        part = requested_part(header, size)
    except Unsatisfiable:
        return

    if part is not None:
        assert part.size == size
        assert part.length >= 1
        assert 0 <= part.start <= part.start + part.length <= size
