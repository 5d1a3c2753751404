"""Tokens as values. None of them holds the token's text."""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.access.grant import Grant
from app.access.scopes import ALL_SCOPES, Scope
from app.addressing import Domain
from app.errors import Invalid

STATIC_NAME = "VOICEMAIL_API_TOKEN"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._@-]{0,63}")  # it is part of URL paths, so it must not be . or ..


def token_name(text: str) -> str:
    """A token's name, checked. Raises ``Invalid``."""
    if not _NAME.fullmatch(text):
        raise Invalid.field("name", "must be 1 to 64 characters of 0-9 A-Z a-z . _ @ - and begin with a letter or digit")
    if text.upper() == STATIC_NAME:
        raise Invalid.field("name", f"must not be {STATIC_NAME}, which in the log means that setting")
    return text


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token. None for domains or scopes means all of them, also those that are added later."""

    name: str
    domains: tuple[Domain, ...] | None
    scopes: frozenset[Scope] | None
    default_domain: Domain | None = None  # None: the first of domains, or VOICEMAIL_DOMAIN
    expires_at: datetime | None = None  # None: after 365 days

    @property
    def scopes_held(self) -> frozenset[Scope]:
        """The scopes of this release that the token will have."""
        return ALL_SCOPES if self.scopes is None else self.scopes


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as it may be shown."""

    name: str
    id: UUID  # another one if a token of this name was revoked and made again
    domains: frozenset[Domain] | None
    scopes: frozenset[Scope] | None
    default_domain: Domain | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None  # to the minute
    old_valid_until: datetime | None  # after a rotation: until when the text before it is still valid

    @property
    def scopes_held(self) -> frozenset[Scope]:
        """The scopes of this release that the token has."""
        return ALL_SCOPES if self.scopes is None else self.scopes


@dataclass(frozen=True, slots=True)
class Found:
    """The token that a digest belongs to, and its grant."""

    grant: Grant
    seconds_left: float  # until it expires; negative: since it expired
