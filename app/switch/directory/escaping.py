"""Text for the inside of the switch's XML, in which nothing can be anything but text."""

import re

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 @._,+]")


def escape(value: str) -> str:
    """``value`` for the inside of an attribute, in ASCII."""
    return _NOT_PLAIN.sub(lambda character: f"&#{ord(character[0])};", value)
