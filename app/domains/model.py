"""A domain as a value."""

from dataclasses import dataclass
from enum import StrEnum

from app.addressing import Domain


class PinPolicy(StrEnum):
    """What happens to a new PIN that is easily guessed."""

    OFF = "off"  # nothing
    WARN = "warn"  # it is taken, and the answer says what is wrong with it
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """What can be set for a domain. None: the service's own setting."""

    description: str = ""
    time_zone: str | None = None
    language: str | None = None
    mail_from: str | None = None
    mail_from_name: str | None = None
    reply_to: str | None = None
    pin_policy: PinPolicy = PinPolicy.WARN
    pin_min_length: int = 6  # digits
    mail_domains: tuple[str, ...] = ()  # the only hosts that mails may go to, in small letters; none: any host
    trash_days: int | None = None

    def allows_mail_to(self, address: str) -> bool:
        """Whether mails of this domain may go to an address. A host's own name counts, and not the one above it."""
        return not self.mail_domains or address.rpartition("@")[2].lower() in self.mail_domains


@dataclass(frozen=True, slots=True)
class HostedDomain:
    """A domain and its settings."""

    name: Domain
    settings: DomainSettings = DomainSettings()
