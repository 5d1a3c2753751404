"""A greeting of a mailbox, and the slots that there are."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from app.errors import NotFound
from app.switch.tables.greetings import Preference

LONGEST = 180  # seconds
_NUMBER = re.compile(r"[1-9]")
_NAME = "name"


@dataclass(frozen=True, slots=True)
class Slot:
    """One of mod_voicemail's nine greetings, or the name that it plays if no greeting is active."""

    name: str  # as the API names it

    @classmethod
    def parse(cls, text: str) -> Self:
        """The slot of a path. Raises ``NotFound``."""
        if text != _NAME and not _NUMBER.fullmatch(text):
            raise NotFound("there is no such slot: they are 1 to 9, and name")
        return cls(text)

    @property
    def file_name(self) -> str:
        """As mod_voicemail names the file in the mailbox's folder."""
        return "recorded_name.wav" if self.name == _NAME else f"greeting_{self.name}.wav"

    @property
    def preference(self) -> Preference:
        """The column that names the file while it is played."""
        return Preference.NAME if self.name == _NAME else Preference.GREETING


SLOTS = (*(Slot(str(number)) for number in range(1, 10)), Slot(_NAME))


class Plays(StrEnum):
    """What callers hear."""

    DEFAULT = "default"  # the switch's own words
    NAME = "name"  # the recorded name, then the switch's own words
    GREETING = "greeting"  # the active slot
    OTHER = "other"  # a file that is none of the slots', set on the switch


@dataclass(frozen=True, slots=True)
class Greeting:
    """A slot that is filled."""

    slot: str
    active: bool
    size: int  # bytes
    seconds: float | None  # None: no WAV file that can be read
    modified: int  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Greetings:
    """A mailbox's filled slots, and what callers hear."""

    filled: tuple[Greeting, ...]
    plays: Plays
