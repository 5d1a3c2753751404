"""A message of the API: a row of the switch, its id, and the facts of its recording."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress
from app.switch.tables.model import DELETED, MessageRow, readable

URGENT, SAVED = "A_URGENT", "save"  # in read_flags and in flags


class RecordingState(StrEnum):
    """What can be heard of a message."""

    READY = "ready"
    GROWING = "growing"  # it is there, and was not read yet: it may still be written to
    MISSING = "missing"  # there is no such file, or none that this service may read
    DAMAGED = "damaged"  # it is empty, or no audio


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """What the index knows about a recording's file."""

    size: int  # bytes
    duration: float | None  # seconds, from the data; None: not a format this service can read
    codec: str
    sha256: str | None  # hexadecimal; None: not computed
    damage: str = ""  # why the facts are missing; "" if all is well

    @property
    def whole(self) -> bool:
        """Whether it holds audio, as far as this service can tell."""
        return not self.damage and self.duration != 0


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its id in the API, its row on the switch, and what is known about its recording."""

    id: UUID
    row: MessageRow
    recording: RecordingFacts | None = None
    time_zone: str | None = None  # the mailbox's own, else its domain's; None: the service's
    mail: str | None = None  # the state of its notification; None: there is none

    @property
    def address(self) -> MailboxAddress:
        """The mailbox; raises ``Invalid`` if the row names none that the API could."""
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
