"""Which PINs are easily guessed, what a domain does about them, and that generated ones are not."""

import pytest

from app.addressing import Extension
from app.domains import fields
from app.domains.model import PinPolicy
from app.errors import Invalid
from app.mailboxes.pins.policy import PinRules, weaknesses

EXTENSION = Extension("4711")


@pytest.mark.parametrize("pin", ["582031", "005820", "000731", "193746", "918273", "112358", "73910482", "4711582"])
def test_a_pin_of_six_digits_that_is_not_easily_guessed_is_taken(pin: str) -> None:
    assert weaknesses(pin, EXTENSION, 6) == []


@pytest.mark.parametrize(
    ("pin", "why"),
    [
        *((pin, "in a row") for pin in ("123456", "654321", "012345", "987654", "890123", "098765", "9123457", "58765431")),
        *((pin, "repeats") for pin in ("111111", "000000", "121212", "123123", "5800009", "777712")),
        *((pin, "at least 6") for pin in ("", "5", "58203", "1" * 5, "٥٨٢٠٣١", "5820３１", "abc123def")),
        *(
            (pin, "a phone cannot dial")
            for pin in ("٥٨٢٠٣١", "５８２０３１", "58²031", "58203a", "582 031", "$${x}\"'<", "🎉" * 64)
        ),
        *((pin, "extension") for pin in ("4711", "004711", "471100", "47114711", "00471100")),
    ],
)
def test_a_pin_that_is_easily_guessed_or_not_dialled_is_said_to_be(pin: str, why: str) -> None:
    found = weaknesses(pin, EXTENSION, 6)

    assert any(why in text for text in found), found
    assert len(pin) < 6 or not pin.isascii() or pin in {"123456", "654321", "111111", "121212"} or pin not in " ".join(found)


@pytest.mark.parametrize("extension", ["1", "0", "*", "000000", "a-b", "123456", "x" * 64])
@pytest.mark.parametrize("pin", ["", "0", "000000", "123456", "x" * 64, "x" * 63, "582031"])
def test_any_extension_and_any_pin_are_compared(extension: str, pin: str) -> None:
    found = weaknesses(pin, Extension(extension), 6)

    assert (pin != extension) or any("extension" in text for text in found)


@pytest.mark.parametrize(("pin", "length"), [("5820", 4), ("58203", 5), ("5820317", 7)])
def test_the_length_is_the_domain_s(pin: str, length: int) -> None:
    assert weaknesses(pin, EXTENSION, length) == []
    assert weaknesses(pin, EXTENSION, length + 1) != []


@pytest.mark.parametrize("pin", ["1234", "4321", "0000", "1212"])
def test_short_ones_are_weak_for_whoever_asks_for_four_digits(pin: str) -> None:
    assert weaknesses(pin, EXTENSION, 4) != []


def test_off_says_nothing_warn_says_it_and_refuse_raises_with_the_field() -> None:
    assert PinRules(PinPolicy.OFF).warnings("1", EXTENSION) == []
    assert {warning.field for warning in PinRules(PinPolicy.WARN).warnings("1", EXTENSION)} == {"password"}
    with pytest.raises(Invalid) as caught:
        PinRules(PinPolicy.REFUSE).warnings("194372"[:5], EXTENSION)
    assert [error.field for error in caught.value.errors] == ["password"]
    assert "19437" not in str(caught.value)
    assert PinRules(PinPolicy.REFUSE).warnings("194372", EXTENSION) == []


@pytest.mark.parametrize("length", [4, 6, 7, 32])
@pytest.mark.parametrize("policy", PinPolicy)
def test_a_generated_pin_obeys_the_rules_and_is_never_the_same(length: int, policy: PinPolicy) -> None:
    rules = PinRules(policy, length)

    made = [rules.generate(EXTENSION) for _ in range(50)]

    assert len(set(made)) > 45
    for pin in made:
        assert weaknesses(pin, EXTENSION, length) == []
        assert len(pin) == max(length, 6)
        assert pin.isascii()
        assert pin.isdigit()


def test_of_an_extension_s_own_digits_none_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter("123456777777004711058203")
    monkeypatch.setattr("app.mailboxes.pins.policy.secrets.choice", lambda _digits: next(drawn))

    assert PinRules().generate(EXTENSION) == "058203"


def test_the_settings_of_a_domain_are_checked() -> None:
    assert (fields.pin_policy(None), fields.pin_policy(""), fields.pin_policy("refuse")) == ("warn", "warn", "refuse")
    assert (fields.pin_min_length(None), fields.pin_min_length(""), fields.pin_min_length("4"), fields.pin_min_length(32)) == (
        6,
        6,
        4,
        32,
    )
    for policy in ("Warn", "deny", "off\n", "\0", "x" * 300):
        with pytest.raises(ValueError, match=r"^must be off, warn, refuse$"):
            fields.pin_policy(policy)
    for length in ("3", "33", 0, -1, 3, 33, 10**30, "٦", "6\n", "6.0", "9" * 300):
        with pytest.raises(ValueError, match=r"^must be 4 to 32$"):
            fields.pin_min_length(length)
