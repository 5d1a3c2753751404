"""Which PINs are easily guessed, and PINs that are not. What is warned of and what is refused is the domain's choice."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.addressing import Extension
from app.domains.model import PinPolicy
from app.errors import FieldError, Invalid

_FIELD = "password"
_LONGEST_RUN = 4  # digits: five in a row, such as 23456, are the most a guesser needs to try first
_MOST_EQUAL = 3  # the same digit in a row
_GENERATED = 6  # digits at least
_DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class PinRules:
    """What a domain asks of new PINs."""

    policy: PinPolicy = PinPolicy.WARN
    min_length: int = 6

    def warnings(self, pin: str, extension: Extension) -> list[FieldError]:
        """What is wrong with a new PIN, in words that do not tell it. Raises ``Invalid`` if the domain refuses such PINs."""
        if self.policy is PinPolicy.OFF:
            return []
        found = [FieldError(_FIELD, message) for message in weaknesses(pin, extension, self.min_length)]
        if found and self.policy is PinPolicy.REFUSE:
            raise Invalid(found)
        return found

    def generate(self, extension: Extension) -> str:
        """A random PIN of digits that these rules take, whatever the policy."""
        length = max(self.min_length, _GENERATED)
        while True:
            pin = "".join(secrets.choice(_DIGITS) for _ in range(length))
            if not weaknesses(pin, extension, self.min_length):
                return pin


def weaknesses(pin: str, extension: Extension, min_length: int) -> list[str]:
    """Why a PIN is easily guessed or cannot be dialled, each as what follows ``the PIN`` in a sentence."""
    digits = [ord(character) - ord("0") for character in pin if character in _DIGITS]
    found = []
    if len(digits) < len(pin):  # also digits of other scripts, which no phone has
        found.append("holds something else than the digits 0 to 9, which a phone cannot dial")
    if len(digits) < min_length:
        found.append(f"should have at least {min_length} digits")
    if _is_extension(pin, extension):
        found.append("is the mailbox's extension, or made of it")
    if len(pin) == len(digits) >= 3 and _has_run(digits):
        found.append("holds digits in a row, such as 123456 or 654321")
    if _repeats(pin):
        found.append("repeats itself, such as 111111 or 121212")
    return found


def _is_extension(pin: str, extension: Extension) -> bool:
    """The extension itself, several times, or with zeros before or after it."""
    plain = extension.lower()
    times, rest = divmod(len(pin), len(plain))
    return pin.strip("0") == plain.strip("0") or (not rest and pin.lower() == plain * times)


def _has_run(digits: Sequence[int]) -> bool:
    """Five digits up or down in a row, or all of a shorter PIN; 0 follows 9."""
    enough = min(_LONGEST_RUN + 1, len(digits))
    return any(_longest(digits, step) >= enough for step in (1, -1))


def _longest(digits: Sequence[int], step: int) -> int:
    """The length of the longest part in which each digit is the one before it and ``step``, modulo 10."""
    longest = length = 1
    for before, digit in pairwise(digits):
        length = length + 1 if digit == (before + step) % 10 else 1
        longest = max(longest, length)
    return longest


def _repeats(pin: str) -> bool:
    """One character more than three times in a row, or the whole PIN a shorter one several times."""
    if any(character * (_MOST_EQUAL + 1) in pin for character in set(pin)):
        return True
    return len(pin) > 1 and pin in (pin + pin)[1:-1]
