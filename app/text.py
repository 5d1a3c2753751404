"""Makes foreign text safe to show: caller names, mail server replies, descriptions. Pure functions, no I/O."""

import re
import unicodedata

_SPACES = re.compile(r"\s+")
_ELLIPSIS = "…"
# Joiners belong to the scripts of a billion people and to emoji; the other format characters turn or hide text.
_KEPT_FORMAT = frozenset("\u200c\u200d")
_BREAKS = frozenset(("Cc", "Zl", "Zp"))
_LONGEST_REPLY = 300
# Nothing that ends or begins an address, a list, a comment or a quoted string.
_ADDRESS = re.compile(r"[!#$%&'*+/0-9=?A-Z^_`a-z{|}~.-]{1,64}@[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?")


def one_line(text: str, limit: int) -> str:
    """``text`` as at most ``limit`` characters on one line, without anything that breaks lines, turns or hides text."""
    # Cut first: normalising a megabyte is slow.
    shown = _SPACES.sub(" ", "".join(_shown(character) for character in text[: limit * 8])).strip()
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + _ELLIPSIS


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category in _BREAKS:
        return " "
    if category == "Cs":
        return "\ufffd"
    if category == "Cf" and character not in _KEPT_FORMAT:
        return ""
    return character


def cleaned_reply(text: str) -> str:
    """The words of a server, fit for the ledger."""
    return one_line(text, _LONGEST_REPLY)


def ascii_address(address: str) -> str | None:
    """``address`` for an envelope or a header, its domain in ASCII (IDNA); None if a mail server could not take it."""
    local, _, domain = address.rpartition("@")
    try:
        plain = f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return None
    return plain if len(plain) <= 254 and _ADDRESS.fullmatch(plain) else None


def caller(name: str, number: str) -> str:
    """Who called, for people: ``Alice (0891234567)``, the number alone, or ``an unknown caller``."""
    name, number = one_line(name, 60), one_line(number, 40)
    if not number or number.lower() == "anonymous":
        number = ""
    if not name or name.lower() in ("anonymous", "unknown") or name == number:
        return number or "an unknown caller"
    return f"{name} ({number})" if number else name


def clock(seconds: int) -> str:
    """A duration as ``0:18`` or ``1:02:03``."""
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
