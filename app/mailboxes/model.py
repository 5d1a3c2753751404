"""What a mailbox is, without its PIN: that stays sealed until the moment it is needed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from uuid import UUID

from app.addressing import Extension, MailboxAddress
from app.errors import FieldError, Invalid


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


class Keep(Enum):
    """In a change: the field stays as it is."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox that somebody asks for. The values were checked."""

    extension: Extension
    pin: str = field(repr=False)
    enabled: bool
    mail_to: tuple[str, ...] = ()
    local_after_email: bool = True
    description: str = ""
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class MailboxChange:
    """What somebody wants a mailbox to be. The values were checked."""

    pin: str = field(repr=False)
    enabled: bool
    mail_to: tuple[str, ...] | Keep = KEEP
    local_after_email: bool | Keep = KEEP
    description: str | Keep = KEEP
    time_zone: str | Keep | None = KEEP
    # Sent back by a client that read them; they cannot change.
    id: UUID | Keep = KEEP
    extension: str | Keep = KEEP

    def applied_to(self, mailbox: Mailbox, seal: Callable[[UUID, str], bytes]) -> Mailbox:
        """``mailbox`` with the change. Raises ``Invalid`` where the change is meant for another mailbox."""
        errors = []
        if self.id is not KEEP and self.id != mailbox.id:
            errors.append(FieldError("id", "is not the id of this mailbox, and cannot be changed"))
        if self.extension is not KEEP and self.extension != mailbox.address.extension:
            errors.append(FieldError("extension", "is not the extension of this mailbox, and cannot be changed"))
        if errors:
            raise Invalid(errors)
        return replace(
            mailbox,
            sealed_pin=seal(mailbox.id, self.pin),
            enabled=self.enabled,
            mail_to=mailbox.mail_to if self.mail_to is KEEP else self.mail_to,
            local_after_email=mailbox.local_after_email if self.local_after_email is KEEP else self.local_after_email,
            description=mailbox.description if self.description is KEEP else self.description,
            time_zone=mailbox.time_zone if self.time_zone is KEEP else self.time_zone,
        )
