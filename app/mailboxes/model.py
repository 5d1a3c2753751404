"""A mailbox as values. Its PIN stays encrypted until it is needed."""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from hashlib import sha256
from uuid import UUID

from app.addressing import Extension, MailboxAddress
from app.errors import FieldError, Invalid, PreconditionFailed


class DirectoryStatus(StrEnum):
    """Whether the switch has a mailbox as it stands in the table."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """Whether the switch has a mailbox's last change, and the reason if not."""

    state: DirectoryStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock after too many failed logins: until it ends, the switch has an unguessable PIN in place of the mailbox's."""

    until: datetime  # when it is due to end
    number: int  # of the mailbox's locks so far; each has a PIN of its own


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
    lock: Lock | None = None

    @property
    def version(self) -> str:
        """A digest of the mailbox's fields, without its state on the switch."""
        facts = (self.mail_to, self.local_after_email, self.enabled, self.description, self.time_zone)
        return sha256(repr((str(self.id), self.sealed_pin, facts)).encode("utf-8", "replace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Changed:
    """A mailbox after a change, and what the caller should know of the PIN that was set."""

    mailbox: Mailbox
    warnings: tuple[FieldError, ...] = ()


def split_addresses(text: str) -> tuple[str, ...]:
    """The mail addresses of a list separated by commas, as it is kept."""
    return tuple(address for address in text.split(",") if address)


def join_addresses(addresses: Iterable[str]) -> str:
    """The inverse of ``split_addresses``."""
    return ",".join(addresses)


def check_version(mailbox: Mailbox, only_if: Set[str] | None) -> None:
    """Raise ``PreconditionFailed`` if the mailbox's version is none of ``only_if``."""
    if only_if is not None and mailbox.version not in only_if:
        raise PreconditionFailed("this mailbox was changed since it was read, or If-Match names no state of it; get it again")


_CHANGEABLE = ("enabled", "mail_to", "local_after_email", "description", "time_zone")


class Keep(Enum):
    """In a change: the field stays as it is."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox to be created. The values were checked."""

    extension: Extension
    pin: str = field(repr=False)
    enabled: bool
    mail_to: tuple[str, ...] = ()
    local_after_email: bool = True
    description: str = ""
    time_zone: str | None = None
    id: UUID | None = None  # the id that clients know already

    def at(self, address: MailboxAddress, mailbox_id: UUID, seal: Callable[[UUID, str], bytes]) -> Mailbox:
        """The mailbox as it is first kept."""
        return Mailbox(
            id=mailbox_id,
            address=address,
            sealed_pin=seal(mailbox_id, self.pin),
            mail_to=self.mail_to,
            local_after_email=self.local_after_email,
            enabled=self.enabled,
            description=self.description,
            time_zone=self.time_zone,
            directory=DirectoryState(DirectoryStatus.PENDING),
        )


@dataclass(frozen=True, slots=True)
class MailboxChange:
    """A change of a mailbox. The values were checked."""

    pin: str | Keep = field(repr=False, default=KEEP)
    enabled: bool | Keep = KEEP
    mail_to: tuple[str, ...] | Keep = KEEP
    local_after_email: bool | Keep = KEEP
    description: str | Keep = KEEP
    time_zone: str | Keep | None = KEEP
    # Sent back by a client that read them; they cannot change.
    id: UUID | Keep = KEEP
    extension: str | Keep = KEEP
    domain: str | Keep = KEEP
    # The versions of which one must be the mailbox's now; None: any.
    only_if: frozenset[str] | None = None

    def applied_to(self, mailbox: Mailbox, seal: Callable[[UUID, str], bytes]) -> Mailbox:
        """``mailbox`` with the change. Raises ``Invalid`` if it is meant for another mailbox, or ``PreconditionFailed``."""
        check_version(mailbox, self.only_if)
        errors = []
        if self.id is not KEEP and self.id != mailbox.id:
            errors.append(FieldError("id", "is not the id of this mailbox, and cannot be changed"))
        if self.extension is not KEEP and self.extension != mailbox.address.extension:
            errors.append(FieldError("extension", "is not the extension of this mailbox, and cannot be changed"))
        if self.domain is not KEEP and self.domain != mailbox.address.domain:
            errors.append(FieldError("domain", "is not the domain of this mailbox, and cannot be changed"))
        if errors:
            raise Invalid(errors)
        return replace(
            mailbox,
            sealed_pin=mailbox.sealed_pin if self.pin is KEEP else seal(mailbox.id, self.pin),
            enabled=mailbox.enabled if self.enabled is KEEP else self.enabled,
            mail_to=mailbox.mail_to if self.mail_to is KEEP else self.mail_to,
            local_after_email=mailbox.local_after_email if self.local_after_email is KEEP else self.local_after_email,
            description=mailbox.description if self.description is KEEP else self.description,
            time_zone=mailbox.time_zone if self.time_zone is KEEP else self.time_zone,
        )

    def fields_changed(self, before: Mailbox, after: Mailbox) -> list[str]:
        """The names of the fields that are not as they were. A PIN that was given counts, also if it is the one before."""
        names = [name for name in _CHANGEABLE if getattr(before, name) != getattr(after, name)]
        return names if self.pin is KEEP else ["password", *names]
