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

# What mail readers turn into a link by themselves: URLs, host names, mail addresses, Windows shares. The dots of IDNA count too.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)[:\uff1a](?=\S)")
_DOT = re.compile(r"(?<=\S)[.\u3002\uff0e\uff61](?=[\w\u0080-\U0010ffff])")
_AT = re.compile(r"[@\uff20](?=\S)")
_SHARE = re.compile(r"\\{2,}")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]?[,;]?")  # J.R., U.S.A.: no top-level domain has one letter
_PLAIN_NUMBER = re.compile(r"(?![0-9]{1,3}(?:\.[0-9]{1,3}){3}$)\+?[0-9().-]+")  # 089.123.4567, and not 192.0.2.1


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


def unlinked(text: str) -> str:
    """``text`` on one line, written so that no mail reader makes a link of it: ``http[:]//evil[.]example``.

    The brackets are visible: a reader sees that something was changed, and a copied text leads nowhere either.
    """
    return " ".join(_unlinked_word(word) for word in text.split(" "))


def _unlinked_word(word: str) -> str:
    if _INITIALS.fullmatch(word) or _PLAIN_NUMBER.fullmatch(word):
        return word
    # The dots first: those in what is put in for the others stay.
    word = _DOT.sub("[.]", word)
    word = _SCHEME.sub(r"\1[:]", word)
    return _SHARE.sub(r"[\\]", _AT.sub("[at]", word))


def caller(name: str, number: str) -> str:
    """Who called, for people: ``Alice (0891234567)``, the number alone, or ``an unknown caller``; never a link."""
    name, number = _foreign(name, 60), _foreign(number, 40)
    if not number or number.lower() == "anonymous":
        number = ""
    if not name or name.lower() in ("anonymous", "unknown") or name == number:
        return number or "an unknown caller"
    return f"{name} ({number})" if number else name


def _foreign(text: str, limit: int) -> str:
    """What a stranger chose, for a mail. It grows a little when it is changed, and what is cut off it makes no link."""
    return one_line(unlinked(one_line(text, limit)), limit + 20)


def clock(seconds: int) -> str:
    """A duration as ``0:18`` or ``1:02:03``."""
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
