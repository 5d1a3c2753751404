"""What a message is: one row of the switch's ``voicemail_msgs``, and the id under which the API knows it."""

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress

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

    @property
    def key(self) -> bytes:
        """SHA-256 of what tells this row from every other."""
        return hashlib.sha256(self._identity).digest()

    @property
    def own_id(self) -> UUID | None:
        """The id this row has where no row before it has the same uuid; None where its uuid is no UUID."""
        return uuid_in(self.uuid)

    @property
    def further_id(self) -> UUID:
        """The id this row has otherwise: the UUIDv5 of its four fields (RFC 9562, 5.5)."""
        return UUID(bytes=hashlib.sha1(NAMESPACE.bytes + self._identity, usedforsecurity=False).digest()[:16], version=5)

    @property
    def _identity(self) -> bytes:
        # PostgreSQL's text never holds the NUL that separates the fields.
        return "\0".join(self[:4]).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """What the index knows about a recording's file."""

    size: int  # bytes
    duration: float | None  # seconds, from the data; None: not a format this service can read
    codec: str
    sha256: str  # hexadecimal


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its id in the API, its row on the switch, and what is known about its recording."""

    id: UUID
    row: MessageRow
    recording: RecordingFacts | None = None
    time_zone: str | None = None  # the mailbox's own; None: the service's

    @property
    def address(self) -> MailboxAddress:
        """The mailbox; raises ``Invalid`` where the row names none that the API could."""
        return MailboxAddress(Extension.parse(self.row.username), Domain.parse(self.row.domain))

    @property
    def domain(self) -> str:
        """The mailbox's domain as the row has it."""
        return self.row.domain

    @property
    def extension(self) -> str:
        """The mailbox's extension as the row has it."""
        return self.row.username

    @property
    def uuid(self) -> str:
        """The call's uuid, which is what the switch's commands take; other rows may have it too."""
        return self.row.uuid

    @property
    def file_path(self) -> str:
        """The recording as the switch names it."""
        return self.row.file_path

    @property
    def caller_name(self) -> str:
        """As the caller sent it: any text."""
        return readable(self.row.caller_name)

    @property
    def caller_number(self) -> str:
        """As the caller sent it: any text."""
        return readable(self.row.caller_number)

    @property
    def created_epoch(self) -> int:
        """Seconds since 1970, by the switch's clock."""
        return self.row.created_epoch

    @property
    def duration(self) -> int:
        """Whole seconds, as the switch counted them."""
        return self.row.duration

    @property
    def read(self) -> bool:
        """Whether it was listened to on a phone."""
        return self.row.read_epoch > 0

    @property
    def flagged_deleted(self) -> bool:
        """Whether the switch is about to remove it."""
        return self.row.flags == DELETED
