"""What the caller of a service may see and do. Every service function takes a grant as its first argument and checks it first."""

from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from app.access.origin import HERE, Origin
from app.access.scopes import ALL_SCOPES, EVERY, Scope
from app.addressing import Domain, Extension, MailboxAddress
from app.errors import Forbidden, NotFound


@dataclass(frozen=True, slots=True)
class Reach:
    """The mailboxes that a look-up may find: those of some domains (None: every domain), perhaps of one extension only."""

    domains: frozenset[Domain] | None
    extension: Extension | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Some domains (None: every domain), some scopes, and perhaps one mailbox only."""

    name: str  # of the token, for logs
    domains: frozenset[Domain] | None
    default_domain: Domain
    scopes: frozenset[Scope]
    mailbox: MailboxAddress | None = None
    token_id: UUID | None = field(default=None, compare=False)  # None: no token of the database
    origin: Origin = field(default=HERE, compare=False)

    @classmethod
    def everything(cls, name: str, default_domain: Domain) -> Self:
        """Every domain and every scope: for VOICEMAIL_API_TOKEN and for the operator's command line."""
        return cls(name, None, default_domain, ALL_SCOPES)

    def asked_from(self, origin: Origin) -> "Grant":
        """The same grant for one call, which came from there."""
        return Grant(self.name, self.domains, self.default_domain, self.scopes, self.mailbox, self.token_id, origin)

    def allows(self, domain: str) -> bool:
        """Whether things of this domain exist for the caller."""
        return self.domains is None or domain in self.domains

    def sees(self, address: MailboxAddress) -> bool:
        """Whether this mailbox, its messages and its notifications exist for the caller."""
        return self.allows(address.domain) and (self.mailbox is None or self.mailbox == address)

    def domain(self, asked: str | None = None, *, absent: str | None = None) -> Domain:
        """The domain that a call names, or the default one.

        Raises ``NotFound`` with the text ``absent`` if the caller may not see that domain: give it the text of an absent thing,
        so that both answers are the same. Raises ``Invalid`` for a text that names no domain at all.
        """
        domain = Domain.parse(asked) if asked else self.default_domain
        if not self.allows(domain):
            raise NotFound(absent)
        return domain

    def domains_for(self, asked: str | None = None, *, absent: str | None = None) -> frozenset[Domain] | None:
        """The domains that a list is about: for ``*`` all that the caller may see (None: every one), else as ``domain``."""
        return self.domains if asked == EVERY else frozenset({self.domain(asked, absent=absent)})

    def reach(self, asked: str | None = None, extension: Extension | None = None, *, absent: str | None = None) -> Reach:
        """What a look-up may find of the domains that ``domains_for`` gives: it filters by this, so nothing foreign is found."""
        domains, own = self.domains_for(asked, absent=absent), self.mailbox
        if own is None:
            return Reach(domains, extension)
        inside = (domains is None or own.domain in domains) and extension in (None, own.extension)
        return Reach(frozenset({own.domain}) if inside else frozenset(), extension or own.extension)

    def has(self, scope: Scope) -> bool:
        """Whether the caller holds a scope."""
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise ``Forbidden``, which names the scope, if the caller lacks it. First find out whether the thing exists for it."""
        if scope not in self.scopes:
            raise Forbidden(scope)

    def covers(self, domains: frozenset[Domain] | None) -> bool:
        """Whether all of these domains (None: every one) are within the caller's."""
        return self.domains is None or (domains is not None and domains <= self.domains)


NOBODY = Grant("", frozenset(), Domain(""), frozenset())
