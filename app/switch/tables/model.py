"""One row of the switch's ``voicemail_msgs``, and the ids that follow from it."""

import hashlib
import re
from typing import NamedTuple
from uuid import UUID

# Made once for this project; it must never change, or ids would.
NAMESPACE = UUID("6f2a1c58-7d3b-5e0c-9a44-d0c5b8f1e7a2")
DELETED = "delete"
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DAMAGED = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    """``text`` with bytes that are no UTF-8, which travel as lone surrogates, shown as U+FFFD."""
    return text if text.isascii() else _DAMAGED.sub("\ufffd", text)


def uuid_in(text: str) -> UUID | None:
    """The UUID that ``text`` is in its usual form (hyphens, no braces), or None."""
    return UUID(text) if _UUID.fullmatch(text) else None


class MessageRow(NamedTuple):
    """One row of ``voicemail_msgs`` as it is now; NULL text reads as ``""`` and NULL numbers as 0.

    The switch keeps no key: ``uuid`` is the call's and repeats, so only the first four fields together tell rows apart.
    """

    domain: str
    username: str
    uuid: str
    file_path: str  # as the switch writes it
    caller_name: str
    caller_number: str
    created_epoch: int  # seconds since 1970, by the switch's clock
    read_epoch: int  # 0: unread
    duration: int  # whole seconds, as the switch counted them
    flags: str
    read_flags: str = ""
    forwarded_by: str = ""

    @property
    def key(self) -> bytes:
        """SHA-256 of what tells this row from every other."""
        return hashlib.sha256(self._identity).digest()

    @property
    def own_id(self) -> UUID | None:
        """The id this row has if no row before it has the same uuid; None if its uuid is no UUID."""
        return uuid_in(self.uuid)

    @property
    def further_id(self) -> UUID:
        """The id this row has otherwise: the UUIDv5 of its four fields (RFC 9562, 5.5)."""
        return UUID(bytes=hashlib.sha1(NAMESPACE.bytes + self._identity, usedforsecurity=False).digest()[:16], version=5)

    @property
    def _identity(self) -> bytes:
        # PostgreSQL's text never holds the NUL that separates the fields.
        return "\0".join(self[:4]).encode("utf-8", "surrogateescape")
