"""The cursor of a list of messages: the place of the last row of a page in its order, which clients pass back."""

import base64
import binascii
import json
from typing import Any

from app.errors import Invalid
from app.switch.tables.search import Key, Sort

LONGEST = 4096  # characters
_WRONG = "is none that this service gave, or of another sort"
_INTEGERS, _TEXTS, _MAY_BE_NULL = (0, 1), (2, 3, 4, 5, 6), (3, 4)
_BIGINT = 2**63


def cursor(sort: Sort, key: Key) -> str:
    """The text for a key."""
    facts = [sort.value, key.created_epoch, key.duration, key.number, key.uuid, key.file_path, key.domain, key.username]
    # Escaped, a byte of the switch that is no UTF-8 passes too.
    return base64.urlsafe_b64encode(json.dumps(facts, separators=(",", ":")).encode()).decode().rstrip("=")


def key_in(text: str, sort: Sort) -> Key:
    """The key again. Raises ``Invalid``."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        facts = json.loads(raw)
    except (ValueError, RecursionError, binascii.Error):
        raise wrong() from None
    if not isinstance(facts, list) or len(facts) != 8 or facts[0] != sort.value or not _fits(facts[1:]):
        raise wrong()
    return Key(*facts[1:])


def wrong() -> Invalid:
    """What a cursor of others is answered."""
    return Invalid.field("cursor", _WRONG)


def _fits(facts: list[Any]) -> bool:
    return all(isinstance(facts[at], int) and -_BIGINT < facts[at] < _BIGINT for at in _INTEGERS) and all(
        (isinstance(text := facts[at], str) and "\0" not in text) or (text is None and at in _MAY_BE_NULL) for at in _TEXTS
    )
