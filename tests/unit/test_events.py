"""Events and replies as a real FreeSWITCH 1.10.12 sent them, and as a hostile caller would have them read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.switch.esl.reply import Reply, parse_event

EVENTS = Path(__file__).parent / "events"


def body(name: str) -> str:
    return (EVENTS / f"{name}.txt").read_text()


def test_a_message_left_is_read_with_its_values_decoded() -> None:
    event = parse_event(body("leave-message"))

    assert (event.name, event.subclass) == ("CUSTOM", "vm::maintenance")
    assert event.headers["VM-Action"] == "leave-message"
    assert event.headers["VM-Message-Len"] == "18"
    assert event.headers["FreeSWITCH-IPv6"] == "fd00::2"


def test_a_caller_cannot_forge_a_header_through_the_caller_name() -> None:
    event = parse_event(body("leave-message"))

    assert event.headers["VM-User"] == "101"
    assert event.headers["VM-Caller-ID-Name"] == "Alice Nguyễn \nVM-User: 102"


@pytest.mark.parametrize("name", ["x %0AVM-User: 102", "x%0aEvent-Name: RELOADXML", "x%0A%0Abody", "%0D%0AVM-User: 102"])
def test_no_encoding_of_a_caller_name_reaches_another_header(name: str) -> None:
    event = parse_event(f"Event-Name: CUSTOM\nVM-Caller-ID-Name: {name}\nVM-User: 101\n\n")

    assert event.name == "CUSTOM"
    assert event.headers["VM-User"] == "101"
    assert set(event.headers) == {"Event-Name", "VM-Caller-ID-Name", "VM-User"}


def test_a_header_that_comes_twice_keeps_its_first_value() -> None:
    event = parse_event("Event-Name: CUSTOM\nVM-User: 101\nVM-User: 102\n\n")

    assert event.headers["VM-User"] == "101"


@pytest.mark.parametrize("spelling", ["VM-User-Password", "vm-user-password"])
def test_a_pin_changed_by_phone_is_not_in_the_event(spelling: str) -> None:
    event = parse_event(body("change-password").replace("VM-User-Password", spelling))

    assert event.headers["VM-Action"] == "change-password"
    assert event.headers["VM-User"] == "103"
    assert spelling not in event.headers
    assert "2468" not in str(dict(event.headers))


def test_a_message_count_is_read() -> None:
    event = parse_event(body("message_waiting-new"))

    assert (event.name, event.subclass) == ("MESSAGE_WAITING", "")
    assert event.headers["MWI-Message-Account"] == "101@lab.local"
    assert event.headers["MWI-Voice-Message"] == "1/0"


def test_an_event_says_nothing_of_its_caller_in_a_log() -> None:
    assert repr(parse_event(body("leave-message"))) == "Event('CUSTOM', 'vm::maintenance')"


@given(st.text())
def test_whatever_comes_is_read_as_some_event(text: str) -> None:
    event = parse_event(text)

    assert event.name == event.headers.get("Event-Name", "")


def test_event_headers_cannot_be_changed() -> None:
    event = parse_event("Event-Name: RELOADXML\n\n")

    with pytest.raises(TypeError):
        event.headers["Event-Name"] = "CUSTOM"  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "ok", "done", "empty", "value"),
    [
        ("+OK\n", True, True, False, "+OK"),
        ("-OK\n", True, True, False, "-OK"),
        ("+OK [Success]\n", True, True, False, "+OK [Success]"),
        ("-ERR no reply\n", False, False, True, ""),
        ("-ERR nosuchcmd Command not found!\n", False, False, False, ""),
        ("-ERR", False, False, False, ""),
        ("tech@example.com", True, False, False, "tech@example.com"),
        (" 12 34 ", True, False, False, " 12 34 "),
        ("1:0:0:0", True, False, False, "1:0:0:0"),
        ("", True, False, True, ""),
    ],
)
def test_replies_of_the_switch_are_told_apart(text: str, ok: bool, done: bool, empty: bool, value: str) -> None:
    reply = Reply("api/response", text)

    assert (reply.ok, reply.done, reply.empty, reply.value) == (ok, done, empty, value)


def test_a_reply_keeps_its_text_out_of_logs() -> None:
    assert "4321" not in repr(Reply("api/response", "4321"))
