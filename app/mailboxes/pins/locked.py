"""The PIN of a locked mailbox: nobody can dial its letters, and everybody can tell it from a PIN that a person chose."""

import re
from base64 import b32encode

_PREFIX = "locked-"
_LOCK_PIN = re.compile(r"locked-[a-z2-7]{52}", re.IGNORECASE)  # mod_voicemail's logins by command ignore case


def lock_pin_of(digest: bytes) -> str:
    """The PIN that a digest of 32 bytes makes."""
    return _PREFIX + b32encode(digest).decode().rstrip("=").lower()


def is_lock_pin(pin: str) -> bool:
    """Whether this is the PIN of a lock, of whichever lock and key: then it is never taken for a PIN set by phone."""
    return _LOCK_PIN.fullmatch(pin) is not None
