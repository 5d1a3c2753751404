"""What may stand in a domain's fields. Each function gives the value as it is kept or raises ``ValueError``."""

import re
import unicodedata
from functools import cache
from zoneinfo import available_timezones

LONGEST_DESCRIPTION = 1000  # characters
LONGEST_NAME = 100  # characters of a sender's name
LONGEST_ADDRESS = 254  # bytes, RFC 5321

_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:-([A-Za-z]{4}))?(?:-([A-Za-z]{2}|[0-9]{3}))?")
# Characters that mean something to a mail header, a shell or a list are left out although RFC 5322 allows some of them.
_LOCAL = re.compile(r"[0-9A-Za-z_+=~%/'-]+(?:\.[0-9A-Za-z_+=~%/'-]+)*")
_LABEL = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?")


def description(text: str) -> str:
    """Up to 1000 characters of text, in lines if need be."""
    if len(text) > LONGEST_DESCRIPTION:
        raise ValueError(f"must not be longer than {LONGEST_DESCRIPTION} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} and character not in "\t\r\n" for character in text):
        raise ValueError("must not hold control characters other than line breaks and tabs")
    return text


def time_zone(text: str | None) -> str | None:
    """A name of the time zone database; empty: the service's."""
    if text and text not in _time_zones():
        raise ValueError("must be a name of the time zone database, such as Asia/Ho_Chi_Minh")
    return text or None


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
    local, _, host = text.rpartition("@")
    well = text.isascii() and _LOCAL.fullmatch(local) and all(_LABEL.fullmatch(label) for label in host.split("."))
    if not well or len(local) > 64 or len(text) > LONGEST_ADDRESS:
        raise ValueError("must be one mail address in ASCII, such as voicemail@example.com")
    return text


def sender_name(text: str | None) -> str | None:
    """The name beside the sender's address: one printable line; empty: none."""
    if not text:
        return None
    if len(text) > LONGEST_NAME or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be 1 to {LONGEST_NAME} printable characters on one line, without a space at either end")
    return text


@cache
def _time_zones() -> frozenset[str]:
    # Read from the disk, which takes a while: once.
    return frozenset(available_timezones())
