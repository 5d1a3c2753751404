"""What a mailbox is, without its PIN: that stays sealed until the moment it is needed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from app.addressing import MailboxAddress


class DirectoryStatus(StrEnum):
    """Whether the switch has a mailbox as it stands in the table."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """Where a mailbox's last change stands on the switch, and why it is not applied yet where it is not."""

    state: DirectoryStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox as it is kept. ``sealed_pin`` is the encrypted PIN; only ``PinCipher`` can open it."""

    id: UUID
    address: MailboxAddress
    sealed_pin: bytes = field(repr=False)
    mail_to: tuple[str, ...]
    local_after_email: bool
    enabled: bool
    description: str
    time_zone: str | None  # a name of the time zone database; None: the service's
    directory: DirectoryState


def split_addresses(text: str) -> tuple[str, ...]:
    """The mail addresses of a list separated by commas, as it is kept."""
    return tuple(address for address in text.split(",") if address)


def join_addresses(addresses: Iterable[str]) -> str:
    """The inverse of ``split_addresses``."""
    return ",".join(addresses)
