"""A domain as a value."""

from dataclasses import dataclass

from app.addressing import Domain


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """What can be set for a domain. None: the service's own setting."""

    description: str = ""
    time_zone: str | None = None
    language: str | None = None
    mail_from: str | None = None
    mail_from_name: str | None = None
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class HostedDomain:
    """A domain and its settings."""

    name: Domain
    settings: DomainSettings = DomainSettings()
