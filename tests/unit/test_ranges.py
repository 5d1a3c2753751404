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


def syntax(first: int | None, last: int | None) -> str:
    return f"bytes={'' if first is None else first}-{'' if last is None else last}"


@given(st.integers(1, 2000), st.none() | st.integers(0, 3000), st.none() | st.integers(0, 3000))
def test_a_range_is_what_rfc_9110_says(size: int, first: int | None, last: int | None) -> None:
    """Against the words of 14.1.2, for every single range that can be written."""
    body = bytes(n % 251 for n in range(size))
    header = syntax(first, last)

    try:
        part = requested_part(header, size)
    except Unsatisfiable:
        assert (first is not None and first >= size) or (first is None and last == 0)
        return

    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert part is None  # no range at all
        return
    assert part is not None
    wanted = body[-last:] if first is None and last else body[first : None if last is None else last + 1]
    assert body[part.start : part.start + part.length] == wanted
    assert part.content_range == f"bytes {part.start}-{part.start + part.length - 1}/{size}"


@given(st.integers(1, 500), st.integers(1, 600))
def test_ranges_one_after_the_other_are_the_whole(size: int, step: int) -> None:
    body, got = bytes(n % 251 for n in range(size)), b""

    while len(got) < size:
        part = requested_part(syntax(len(got), len(got) + step - 1), size)
        assert part is not None
        got += body[part.start : part.start + part.length]

    assert got == body


@pytest.mark.parametrize("digits", [25, 4000])
def test_a_range_with_huge_numbers_is_one(digits: int) -> None:
    assert requested_part(f"bytes=5-{'9' * digits}", 100) == Part(5, 95, 100)
    with pytest.raises(Unsatisfiable):
        requested_part(f"bytes={'9' * digits}-", 100)
