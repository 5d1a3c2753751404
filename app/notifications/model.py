"""The values of the ledger: a notification, its recipients, the mail server's replies, and the state of the recording."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.addressing import MailboxAddress
from app.jobs.retries import Retries

NOTIFY = "notify"  # the jobs that mail; the payload is a notification's id
AFTER_MAIL = "after_mail"  # the reason for which a mailed message is removed


@dataclass(frozen=True, slots=True)
class MailRetries(Retries):
    """How often a mail is tried again; one whose acceptance is unknown has a pace of its own. All times in seconds."""

    unknown_pause: float = 1800.0  # after content was sent without an answer; longer than the longest wait for one
    unknown_tries: int = 3  # how often such a mail is sent again


class NotificationState(StrEnum):
    """Where a mail stands. Only ``queued`` is ever tried."""

    QUEUED = "queued"
    SENT = "sent"  # every recipient was accepted
    FAILED = "failed"  # a recipient was refused, or nobody could be reached for days
    UNKNOWN = "unknown"  # nobody was refused, but the mail server never said whether it accepted the mail for everybody
    CANCELLED = "cancelled"  # there was nothing left to send
    DIGESTED = "digested"  # it has no mail of its own: a digest announces the message, without the recording


class RecordingState(StrEnum):
    """The state of the recording after its mail is settled. It is kept if there is any doubt."""

    KEPT = "kept"
    DELETING = "deleting"
    DELETED = "deleted"


class RecipientState(StrEnum):
    """What is known about one recipient; ``accepted`` and ``refused`` are final.

    ``unknown`` is written before the content goes: if the process ends then, the ledger says that the mail may have arrived.
    """

    PENDING = "pending"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt for one recipient. ``pending`` means: try again."""

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
    caller_name: str
    caller_number: str
    created_epoch: int
    duration: int


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
    digest_id: UUID | None = None  # it is announced in this digest and not mailed


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
    unknowns: int  # attempts that sent the content and had no answer to it
    next_try_at: datetime
    created_at: datetime
    settled_at: datetime | None
    recording_state: RecordingState  # of the removal after the mail; kept if none was asked for
    recording_detail: str
    recording_tries: int
    source: Source
    digest_id: UUID | None = None
