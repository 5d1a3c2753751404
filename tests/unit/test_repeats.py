"""A trouble is one line in the log, however many meet it."""

from structlog.testing import capture_logs

from app.jobs.repeats import Repeats


def warned(lines: list[dict[str, object]]) -> list[object]:
    return [line["reason"] for line in lines if line["log_level"] == "warning"]


def test_equal_troubles_are_one_warning_and_their_end_says_how_many_they_were() -> None:
    repeats = Repeats()

    with capture_logs() as lines:
        for number in range(50):
            repeats.tell("mail_server_away", "connection refused", mailbox=str(number))
        repeats.over("mail_server_away", now="mail_server_back")
        repeats.over("mail_server_away", now="mail_server_back")
        repeats.tell("mail_server_away", "connection refused")

    assert warned(lines) == ["connection refused"] * 2
    assert [line["times"] for line in lines if line["event"] == "mail_server_back"] == [50]


def test_troubles_that_differ_in_names_only_are_equal() -> None:
    repeats = Repeats()

    with capture_logs() as lines:
        for name in ("a", "b"):
            repeats.tell("mail_postponed", f"the recording 'msg_{name}.wav' is gone from the disk")
            repeats.tell("mail_postponed", f"450 4.2.0 <{name}@example.com>: try later")

    assert len(warned(lines)) == 2


def test_a_trouble_that_goes_on_is_told_again_after_a_while_with_how_often_it_was_met() -> None:
    repeats = Repeats(again=0.0)

    with capture_logs() as lines:
        for _ in range(3):
            repeats.tell("mail_postponed", "the disk is full")

    assert len(warned(lines)) == 3


def test_few_troubles_are_remembered() -> None:
    repeats = Repeats()

    with capture_logs():
        for number in range(3000):
            repeats.tell("mail_postponed", f"trouble {number}")

    assert len(repeats._told) == 1000
