"""The values of a delivery: an attempt, the content of its mail, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.domains.model import DomainSettings
from app.mailboxes.model import Mailbox
from app.notifications.mail.conversation import BeforeContent
from app.notifications.mail.sender import Sender
from app.notifications.model import Notification, Outcome, Recipient, RecipientState


class Transport(Protocol):
    """Sends a mail; implemented by ``SmtpTransport``."""

    async def send(
        self, recipients: Sequence[str], mail: bytes, *, sender: str, before_content: BeforeContent | None
    ) -> list[Outcome]:
        """One outcome a recipient. ``sender`` is the envelope's.

        ``before_content`` is called before any content goes, and ends the attempt if it raises.
        """


class Overtaken(Exception):
    """Another process has begun an attempt since, because this one's lock was lost: this one sends and writes nothing."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt under way: the ledger's row, the mailbox and its domain as they are now, and the recipients."""

    notification: Notification
    mailbox: Mailbox
    domain: DomainSettings
    sender: Sender
    recipients: tuple[Recipient, ...]
    repeats: int  # how often content is sent again if there was no answer to it

    @property
    def pending(self) -> list[str]:
        """The recipients that are still pending."""
        states = {RecipientState.PENDING}
        if self.notification.unknowns <= self.repeats:
            states.add(RecipientState.UNKNOWN)
        return [recipient.address for recipient in self.recipients if recipient.state in states]


@dataclass(frozen=True, slots=True)
class About:
    """What a mail says of its message: from the switch's row, or from our own record of it."""

    caller_name: str
    caller_number: str
    created_epoch: int
    duration: int
    listed: bool = True  # the switch still has the row


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an attempt before it is written: the outcomes, or the reason why there are none."""

    outcomes: Sequence[Outcome] = ()
    trouble: str = ""  # to be tried again
    cancelled: str = ""
    kept_because: str = ""  # the mail went without the recording


def zone_named(name: str | None, otherwise: ZoneInfo) -> ZoneInfo:
    """The time zone of this name, ``otherwise`` if there is none."""
    try:
        return ZoneInfo(name) if name else otherwise
    except (ZoneInfoNotFoundError, ValueError):
        return otherwise
