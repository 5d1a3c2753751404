"""The text of a token: it is generated, checked for typing errors without the database, and hashed for storage."""

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "vm_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase  # no - or _, so a double click selects all of it
_RANDOM, _CHECK = 43, 6  # characters: 256 bits, and a CRC-32
_SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")


def make() -> str:
    """A new token: ``vm_``, 43 random characters, and a checksum of 6 characters over all of them."""
    text = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return text + _checksum(text)


def well_formed(text: str) -> bool:
    """Whether a text has the shape of a token and its checksum is right. Only the database knows whether it is valid."""
    return _SHAPE.fullmatch(text) is not None and _checksum(text[:-_CHECK]) == text[-_CHECK:]


def digest(text: str) -> bytes:
    """The digest that is stored and compared. SHA-256 is enough, because nobody can guess 256 random bits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode("ascii")), []
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
