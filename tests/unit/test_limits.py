"""Counters of what one caller asks, with a clock that stands still."""

from ipaddress import IPv6Address

import pytest

from app.access.limits import DownloadLimit, FailureLimit, RequestLimit, Window
from app.errors import TooManyRequests


class Clock:
    """A clock that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_takes_as_many_as_its_limit_and_says_when_it_ends() -> None:
    clock = Clock()
    window = Window(3, 60.0, clock)

    assert [window.hit("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    clock.now += 20.0
    assert window.hit("a") == 40.0
    assert window.hit("b") == 0.0
    clock.now += 39.9
    assert window.full("a")
    clock.now += 0.1
    assert not window.full("a")
    assert window.hit("a") == 0.0


def test_what_is_beyond_the_limit_does_not_prolong_it() -> None:
    clock = Clock()
    window = Window(1, 60.0, clock)
    window.hit("a")

    for _ in range(59):
        clock.now += 1.0
        assert window.hit("a")
    clock.now += 1.0

    assert window.hit("a") == 0.0


def test_a_window_remembers_no_more_keys_than_it_may_and_forgets_the_oldest() -> None:
    clock = Clock()
    window = Window(1, 60.0, clock, most=100)
    window.hit("first")
    for number in range(99):
        clock.now += 0.001
        window.hit(str(number))
    assert window.full("first")

    window.hit("one more")

    assert len(window) == 100
    assert not window.full("first")
    assert window.full("0")
    assert window.full("one more")


def test_a_key_whose_time_began_again_is_young() -> None:
    clock = Clock()
    window = Window(1, 60.0, clock, most=2)
    window.hit("a")
    window.hit("b")
    clock.now += 60.0
    window.hit("a")

    window.hit("c")

    assert window.full("a")
    assert not window.full("b")


def test_many_addresses_cost_the_memory_of_ten_thousand() -> None:
    failures = FailureLimit(10, Clock())

    for number in range(10_100):
        failures.count(str(IPv6Address((0x20010DB8 << 96) + (number << 64))))

    assert len(failures._window) == 10_000


def test_the_failures_of_a_64_are_those_of_one_caller() -> None:
    failures = FailureLimit(10, Clock())
    for number in range(10):
        failures.count(f"2001:db8::{number:x}")

    assert failures.reached("2001:db8::ffff")
    assert not failures.reached("2001:db8:0:1::1")
    with pytest.raises(TooManyRequests) as refused:
        failures.count("2001:db8::ffff")
    assert refused.value.retry_after == 60.0


def test_a_token_asks_fifty_times_a_second() -> None:
    clock = Clock()
    requests = RequestLimit(50, clock)
    for second in range(3):
        clock.now = 1000.0 + second
        for _ in range(50):
            requests.count("phone-book")
        with pytest.raises(TooManyRequests) as refused:
            requests.count("phone-book")
        assert refused.value.retry_after == 1.0
        requests.count(f"other-{second}")


def test_a_download_that_is_over_makes_room_once() -> None:
    downloads = DownloadLimit(2)
    ends = [downloads.begin("a"), downloads.begin("a")]
    downloads.begin("b")
    with pytest.raises(TooManyRequests):
        downloads.begin("a")

    ends[0]()
    ends[0]()

    downloads.begin("a")
    with pytest.raises(TooManyRequests):
        downloads.begin("a")
