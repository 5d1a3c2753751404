"""What the ledger of mails holds: a notification, its recipients, what the mail server said, and what became of the recording."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.addressing import MailboxAddress

NOTIFY = "notify"  # the jobs that mail; the payload is a notification's id
AFTER_MAIL = "after_mail"  # the reason for which a mailed message is removed


class NotificationState(StrEnum):
    """Where a mail stands. Only ``queued`` is ever tried."""

    QUEUED = "queued"
    SENT = "sent"  # every recipient was accepted
    FAILED = "failed"  # a recipient was refused, or nobody could be reached for days
    CANCELLED = "cancelled"  # there was nothing to send any more


class RecordingState(StrEnum):
    """What becomes of the recording once its mail is settled. It is kept if there is any doubt."""

    KEPT = "kept"
    DELETING = "deleting"
    DELETED = "deleted"


class RecipientState(StrEnum):
    """What is known about one recipient; ``accepted`` and ``refused`` are final."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to for one recipient. ``pending`` means: try again."""

    address: str
    state: RecipientState
    code: int | None  # of the SMTP reply; None: there was none
    reply: str  # the server's words or ours, cleaned and shortened


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a notification, with the last thing its mail server said."""

    address: str
    state: RecipientState
    code: int | None
    reply: str
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Source:
    """The row of ``voicemail_msgs`` that a notification is about, as it was first seen."""

    key: bytes  # tells the row from every other
    domain: str
    username: str
    uuid: str
    file_path: str
    recording: str | None  # the file below the recordings folder; None: outside it


@dataclass(frozen=True, slots=True)
class Draft:
    """A notification that is yet to be written to the ledger."""

    id: UUID
    message_id: UUID
    mailbox_id: UUID
    address: MailboxAddress
    mail_message_id: str
    local_after_email: bool
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notification:
    """One row of the ledger: a message that is to be mailed, or was."""

    id: UUID
    message_id: UUID
    mailbox_id: UUID
    domain: str
    extension: str
    mail_message_id: str  # the Message-ID header, the same at every attempt
    local_after_email: bool  # as it was when the message came
    state: NotificationState
    detail: str
    attempts: int
    next_try_at: datetime
    created_at: datetime
    settled_at: datetime | None
    recording_state: RecordingState  # of the removal after the mail; kept if none was asked for
    recording_detail: str
    recording_tries: int
    source: Source
