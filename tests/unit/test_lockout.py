"""What is taken for a login by phone, and what the PIN of a lock looks like."""

import pytest

from app.addressing import Domain, Extension, MailboxAddress
from app.mailboxes import fields
from app.mailboxes.lockout.hearing import login_of
from app.mailboxes.lockout.model import Source
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.locked import is_lock_pin
from app.switch.esl.reply import parse_event

KEY = bytes(range(32))
ADDRESS = MailboxAddress(Extension("101"), Domain("lab.local"))
# As FreeSWITCH 1.10.12 sent it.
FAILED = """Event-Subclass: vm%3A%3Amaintenance
Event-Name: CUSTOM
Core-UUID: bcd3141c-9756-4821-b733-40aeb5ddb66c
Event-Date-Timestamp: 1795574839184123
Event-Sequence: 473
VM-Action: authentication
VM-Auth-Result: fail
VM-User: 101
VM-Domain: lab.local
Channel-Name: loopback/playback-a
Unique-ID: 28779c67-0203-411b-91e0-aa19f3bdb2e8

"""


def test_a_failed_login_names_its_mailbox_its_call_and_itself() -> None:
    login = login_of(parse_event(FAILED))

    assert login is not None
    assert (login.address, login.success, login.source) == (ADDRESS, False, Source.PHONE)
    assert login.call == "28779c67-0203-411b-91e0-aa19f3bdb2e8"
    assert login.id == "bcd3141c-9756-4821-b733-40aeb5ddb66c/473"


def test_a_login_that_went_well_is_a_success() -> None:
    login = login_of(parse_event(FAILED.replace("Result: fail", "Result: success")))

    assert login is not None
    assert login.success


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("VM-Action: authentication", "VM-Action: leave-message"),
        ("vm%3A%3Amaintenance", "other%3A%3Aevent"),
        ("VM-Auth-Result: fail", "VM-Auth-Result: maybe"),
        ("VM-User: 101", "VM-User: ..%2F..%2Fetc"),
        ("VM-User: 101", "VM-User: 1%00"),
        ("VM-User: 101", "VM-User: "),
        ("VM-User: 101", "VM-User: " + "1" * 300),
        ("VM-Domain: lab.local", "VM-Domain: lab%0Alocal"),
        ("VM-Domain: lab.local\n", ""),
    ],
)
def test_any_other_event_is_none(line: str, other: str) -> None:
    assert login_of(parse_event(FAILED.replace(line, other))) is None


@pytest.mark.parametrize("call", ["%00", "%F0%9F%92%A9", "x" * 300, "a%0Ab", ""])
def test_a_call_with_a_strange_name_is_a_call_without_one(call: str) -> None:
    login = login_of(parse_event(FAILED.replace("28779c67-0203-411b-91e0-aa19f3bdb2e8", call)))

    assert login is not None
    assert login.call == ""


def test_an_event_without_a_number_counts_as_one_of_its_own() -> None:
    without = parse_event(FAILED.replace("Event-Sequence: 473\n", ""))

    first, second = login_of(without), login_of(without)

    assert first is not None
    assert second is not None
    assert first.id != second.id


def test_a_caller_cannot_forge_another_mailbox_by_a_line_break_in_a_name() -> None:
    login = login_of(parse_event(FAILED.replace("Channel-Name: loopback", "Channel-Name: x%0AVM-User: 999")))

    assert login is not None
    assert login.address == ADDRESS


def test_each_lock_has_a_pin_of_its_own_that_no_phone_can_dial() -> None:
    cipher, other = PinCipher(KEY), MailboxAddress(Extension("102"), Domain("lab.local"))

    pins = [
        cipher.lock_pin(ADDRESS, 1), cipher.lock_pin(ADDRESS, 2), cipher.lock_pin(other, 1),
        PinCipher(bytes(32)).lock_pin(ADDRESS, 1),
    ]  # fmt: skip

    assert len(set(pins)) == 4
    assert cipher.lock_pin(ADDRESS, 1) == pins[0]
    assert all(is_lock_pin(pin) and is_lock_pin(pin.upper()) and not set(pin) <= set("0123456789*#ABCD") for pin in pins)


@pytest.mark.parametrize("pin", ["4321", "locked-1", "locked-" + "a" * 51, "locked-" + "a" * 53, "xlocked-" + "a" * 52, ""])
def test_other_pins_are_not_taken_for_a_lock(pin: str) -> None:
    assert not is_lock_pin(pin)


def test_the_pin_of_a_lock_is_refused_as_a_pin() -> None:
    with pytest.raises(ValueError, match="locked mailbox"):
        fields.pin(PinCipher(KEY).lock_pin(ADDRESS, 1))
