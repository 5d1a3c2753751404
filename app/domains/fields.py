"""What may stand in a domain's fields. Each function gives the value as it is kept or raises ``ValueError``."""

import re
from collections.abc import Sequence

from app import fields
from app.domains.model import DomainSettings, PinPolicy

MOST_MAIL_DOMAINS = 50
LONGEST_NAME = 100  # characters of a sender's name
LEAST_TRASH_DAYS, MOST_TRASH_DAYS = 1, 3650
SHORTEST_PIN, LONGEST_PIN = 4, 32  # digits that pin_min_length may ask for

_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:-([A-Za-z]{4}))?(?:-([A-Za-z]{2}|[0-9]{3}))?")


def time_zone(text: str | None) -> str | None:
    """A name of the time zone database; empty: the service's."""
    return fields.time_zone(text) if text else None


def language(text: str | None) -> str | None:
    """A language tag such as ``en``, ``vi`` or ``zh-Hant-TW``, in its usual capitals; empty: the service's."""
    if not text:
        return None
    match = _LANGUAGE.fullmatch(text)
    if match is None:
        raise ValueError("must be a language tag such as en, vi or pt-BR")
    primary, script, region = match.groups()
    return "-".join(part for part in (primary.lower(), script and script.title(), region and region.upper()) if part)


def address(text: str | None) -> str | None:
    """One mail address without a name around it; empty: the service's."""
    if not text:
        return None
    if fields.address_problem(text):
        raise ValueError("must be one mail address in ASCII, such as voicemail@example.com")
    return text


def sender_name(text: str | None) -> str | None:
    """The name beside the sender's address: one printable line; empty: none."""
    if not text:
        return None
    if len(text) > LONGEST_NAME or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be 1 to {LONGEST_NAME} printable characters on one line, without a space at either end")
    return text


def pin_policy(text: str | None) -> PinPolicy:
    """What happens to a weak new PIN; empty: the default."""
    if not text:
        return DomainSettings().pin_policy
    try:
        return PinPolicy(text)
    except ValueError:
        raise ValueError("must be " + ", ".join(PinPolicy)) from None


def pin_min_length(text: str | int | None) -> int:
    """How many digits a new PIN should have; empty: the default."""
    if text is None or text == "":
        return DomainSettings().pin_min_length
    # Not isdigit(), which takes digits of every script.
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{1,3}", text):
        raise ValueError(f"must be {SHORTEST_PIN} to {LONGEST_PIN}")
    if not SHORTEST_PIN <= int(text) <= LONGEST_PIN:
        raise ValueError(f"must be {SHORTEST_PIN} to {LONGEST_PIN}")
    return int(text)


def mail_domains(names: Sequence[str] | str | None) -> tuple[str, ...]:
    """The hosts that mails may go to, each once and in small letters; text: separated by commas. None at all: any host."""
    if isinstance(names, str):
        names = [name for name in (piece.strip(" ") for piece in names.split(",", MOST_MAIL_DOMAINS)) if name]
    if not names:
        return ()
    if len(names) > MOST_MAIL_DOMAINS:
        raise ValueError(f"must not hold more than {MOST_MAIL_DOMAINS} names")
    for number, name in enumerate(names, 1):
        if fields.address_problem(f"a@{name}"):
            raise ValueError(f"name {number} is not the part of a mail address after the @, in ASCII, such as example.com")
    return tuple(dict.fromkeys(name.lower() for name in names))


def trash_days(text: str | int | None) -> int | None:
    """For how many days a deleted message can be restored; empty: the service's."""
    if text is None or text == "":
        return None
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"must be {LEAST_TRASH_DAYS} to {MOST_TRASH_DAYS}")
    if not LEAST_TRASH_DAYS <= int(text) <= MOST_TRASH_DAYS:
        raise ValueError(f"must be {LEAST_TRASH_DAYS} to {MOST_TRASH_DAYS}")
    return int(text)
