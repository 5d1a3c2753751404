"""What may stand in a mailbox's fields. Each function gives the value as it is kept or raises ``ValueError``."""

import re
import unicodedata
from functools import cache
from zoneinfo import available_timezones

from app.mailboxes.model import join_addresses

LONGEST_PIN = 64  # characters
LONGEST_DESCRIPTION = 1000  # characters
LONGEST_ADDRESS = 254  # bytes, RFC 5321
MOST_ADDRESSES = 20
LONGEST_MAIL_TO = 10_000  # characters, with all spaces around the commas

# Characters that mean something to a mail header, a shell or a list are left out although RFC 5322 allows some of them.
_LOCAL = re.compile(r"[0-9A-Za-z_+=~%/'-]+(?:\.[0-9A-Za-z_+=~%/'-]+)*")
_LABEL = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?")


def pin(text: str) -> str:
    """1 to 64 printable characters; a space may stand inside."""
    if not 1 <= len(text) <= LONGEST_PIN or not text.isprintable():
        raise ValueError(f"must be 1 to {LONGEST_PIN} printable characters")
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    if "<!" in text:
        # The switch writes a user out as XML and reads it in again at every lookup, and from <! on it escapes nothing.
        raise ValueError("must not hold <! in a row, which the switch cannot keep")
    if text.lower() == "user-choose":
        # mod_voicemail takes this word as leave to come in without a PIN and choose one.
        raise ValueError("must not be the word user-choose, which has a meaning of its own for the switch")
    return text


def mail_to(text: str) -> str:
    """No address, one, or several separated by commas, each once and without the spaces around it."""
    if not text.strip(" "):
        return ""
    if len(text) > LONGEST_MAIL_TO:
        raise ValueError(f"must not be longer than {LONGEST_MAIL_TO} characters")
    # A comma at the end is forgiven.
    text = text.rstrip(" ").removesuffix(",")
    # Counted first: to split a megabyte of commas is slow.
    if text.count(",") >= MOST_ADDRESSES:
        raise ValueError(f"must not hold more than {MOST_ADDRESSES} addresses")
    pieces = [piece.strip(" ") for piece in text.split(",")]
    for number, piece in enumerate(pieces, 1):
        if problem := _address_problem(piece):
            which = f"address {number} ({piece[:100]!a})" if len(pieces) > 1 else "the address"
            raise ValueError(f"{which} {problem}")
    once: dict[str, str] = {}
    for piece in pieces:
        once.setdefault(_mailbox_of(piece), piece)
    return join_addresses(once.values())


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


def _address_problem(address: str) -> str | None:
    if not address:
        return "is empty"
    if len(address.encode("utf-8", "surrogatepass")) > LONGEST_ADDRESS:
        return f"is longer than {LONGEST_ADDRESS} bytes"
    if not address.isascii():
        return "must be ASCII: write an international domain as xn--…"
    local, _, domain = address.rpartition("@")
    if not _LOCAL.fullmatch(local) or len(local) > 64 or not _host(domain):
        return "is not a mail address such as name@example.com"
    return None


def _host(domain: str) -> bool:
    return all(_LABEL.fullmatch(label) for label in domain.split("."))


def _mailbox_of(address: str) -> str:
    """Only the domain of an address is the same in capitals and small letters."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


@cache
def _time_zones() -> frozenset[str]:
    # Read from the disk, which takes a while: once.
    return frozenset(available_timezones())
