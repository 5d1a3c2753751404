"""The values of notices and digests."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from app.addressing import MailboxAddress

NOTICE = "notice"  # the jobs that mail notices; the payload is a notice's id
DIGEST = "digest"  # the jobs that close digests; the payload is a digest's id


class NoticeKind(StrEnum):
    """What a notice says."""

    DIGEST = "digest"
    DROPPED = "dropped"  # the mailbox has the address no more


class NoticeState(StrEnum):
    """Where a notice stands. Only ``queued`` is ever tried."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"  # sent several times, and the mail server never said whether it accepted it
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A notice that is yet to be written."""

    id: UUID
    kind: NoticeKind
    mailbox: MailboxAddress
    address: str
    mail_message_id: str
    digest_id: UUID | None = None
    refused: str = ""  # why it is written down and never sent


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice of which an attempt has begun."""

    id: UUID
    kind: NoticeKind
    digest_id: UUID | None
    mailbox: MailboxAddress
    address: str
    mail_message_id: str
    attempts: int
    unknowns: int  # earlier attempts that sent the content and had no answer to it
    age: float  # seconds since it was queued


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest that takes no more messages."""

    id: UUID
    mailbox_id: UUID
    mailbox: MailboxAddress
    mail_message_id: str


@dataclass(frozen=True, slots=True)
class Missed:
    """A message as a digest tells of it."""

    caller_name: str
    caller_number: str
    created_epoch: int
    duration: int
