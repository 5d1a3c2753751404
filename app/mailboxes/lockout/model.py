"""When a mailbox is locked and for how long, and what a login was."""

from dataclasses import dataclass
from enum import StrEnum

from app.addressing import MailboxAddress


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """So many failed logins within ``window`` seconds lock a mailbox for ``first`` seconds, doubling up to ``longest``."""

    attempts: int  # 0: nothing is counted and nothing is locked
    window: int
    first: int
    longest: int

    @property
    def on(self) -> bool:
        """Whether mailboxes are locked at all."""
        return self.attempts > 0


class Source(StrEnum):
    """Where somebody gave a PIN."""

    PHONE = "phone"
    API = "api"


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody gave a PIN for a mailbox; which one is not known here."""

    id: str  # of this login: however many copies of the service note it, it counts once
    address: MailboxAddress
    success: bool
    source: Source
    call: str  # the phone call or the client's session; "": not known
    heard: float  # by time.monotonic
