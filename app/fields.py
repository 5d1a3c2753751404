"""What may stand in fields that several capabilities have: each function gives the value kept, or raises ``ValueError``."""

import re
import unicodedata
from functools import cache
from zoneinfo import available_timezones

LONGEST_DESCRIPTION = 1000  # characters
LONGEST_ADDRESS = 254  # bytes, RFC 5321

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


def time_zone(name: str) -> str:
    """A name of the time zone database."""
    if name not in _time_zones():
        raise ValueError("must be a name of the time zone database, such as Asia/Ho_Chi_Minh")
    return name


def address_problem(address: str) -> str | None:
    """The fault in a mail address, as the end of a sentence that begins with the address; None if it is correct."""
    if not address:
        return "is empty"
    if len(address.encode("utf-8", "surrogatepass")) > LONGEST_ADDRESS:
        return f"is longer than {LONGEST_ADDRESS} bytes"
    if not address.isascii():
        return "must be ASCII: write an international domain as xn--…"
    local, _, host = address.rpartition("@")
    if not _LOCAL.fullmatch(local) or len(local) > 64 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        return "is not a mail address such as name@example.com"
    return None


@cache
def _time_zones() -> frozenset[str]:
    # Cached, because reading them from the disk is slow.
    return frozenset(available_timezones())
