"""Reads, creates, changes and deletes domains."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import Domain
from app.database.pool import Pool
from app.domains import store
from app.domains.model import DomainSettings, HostedDomain
from app.errors import Conflict, Forbidden, Invalid, NotFound, SettingsError

log = structlog.get_logger(__name__)

SETTING = "VOICEMAIL_DOMAIN"
_ABSENT = "there is no such domain"


class Domains:
    """The domains of this installation. A caller needs the scope admin, and sees the domains of its grant."""

    def __init__(self, pool: Pool, default: Domain) -> None:
        """``default`` is VOICEMAIL_DOMAIN: made at the start, never deleted."""
        self._pool = pool
        self._default = default

    @property
    def default(self) -> Domain:
        """VOICEMAIL_DOMAIN."""
        return self._default

    async def ensure_default(self) -> None:
        """At the start: make the default domain if it is not there. Raises ``SettingsError`` if only its capitals differ."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await store.insert(connection, HostedDomain(self._default)):
                log.info("domain_created", name=self._default, by=SETTING)
            elif (there := await store.alike(connection, self._default)) != self._default:
                raise SettingsError.field(SETTING, f"differs only in capitals from the domain {there}, which is there already")

    async def page(self, grant: Grant, *, limit: int, offset: int) -> tuple[list[HostedDomain], int]:
        """Domains by name, and how many there are."""
        grant.require(Scope.ADMIN)
        async with self._pool.acquire() as connection:
            return await store.page(connection, grant.domains, limit=limit, offset=offset)

    async def get(self, grant: Grant, name: str) -> HostedDomain:
        """The domain of this name. Raises ``NotFound``."""
        domain = self._admitted(grant, name)
        async with self._pool.acquire() as connection:
            return _found(await store.get(connection, domain))

    async def create(self, grant: Grant, new: HostedDomain) -> HostedDomain:
        """A new domain, for callers of every domain. Raises ``Conflict`` if there is one of this name, in whatever capitals."""
        grant.require(Scope.ADMIN)
        if not grant.covers(None):
            raise Forbidden(detail="only a token for every domain can make one")
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.insert(connection, new):
                raise Conflict(f"there is a domain {await store.alike(connection, new.name) or new.name} already")
            await audit.insert(connection, [AuditEntry.of(grant, Action.DOMAIN_CREATE, domain=new.name)])
        log.info("domain_created", name=new.name, by=grant.name)
        return new

    async def replace(self, grant: Grant, name: str, settings: DomainSettings) -> None:
        """Set all of a domain's settings. Raises ``NotFound``."""
        await self._change(grant, name, lambda _current: settings)

    async def change(self, grant: Grant, name: str, changes: Mapping[str, str | int | tuple[str, ...] | None]) -> None:
        """Set some of a domain's settings, by the names of ``DomainSettings``; checked values. Raises ``NotFound``."""
        assert changes.keys() <= {field.name for field in fields(DomainSettings)}
        await self._change(grant, name, lambda current: replace(current, **changes))  # type: ignore[arg-type]

    async def delete(self, grant: Grant, name: str) -> None:
        """Delete an empty domain. Raises ``NotFound``, or ``Conflict``, which says what the domain still holds."""
        domain = self._admitted(grant, name)
        async with self._pool.acquire() as connection, connection.transaction():
            _found(await store.lock(connection, domain))
            if domain == self._default:
                raise Conflict(f"the domain {domain} is {SETTING}; it cannot be deleted")
            if reason := await store.use_of(connection, domain):
                raise Conflict(f"the domain {domain} {reason}")
            await store.delete(connection, domain)
            await audit.insert(connection, [AuditEntry.of(grant, Action.DOMAIN_DELETE, domain=domain)])
        log.info("domain_deleted", name=domain, by=grant.name)

    async def _change(self, grant: Grant, name: str, change: Callable[[DomainSettings], DomainSettings]) -> None:
        domain = self._admitted(grant, name)
        async with self._pool.acquire() as connection, connection.transaction():
            hosted = _found(await store.lock(connection, domain))
            changed = change(hosted.settings)
            await store.update(connection, HostedDomain(domain, changed))
            names = [
                field.name for field in fields(changed) if getattr(changed, field.name) != getattr(hosted.settings, field.name)
            ]
            await audit.insert(connection, [AuditEntry.of(grant, Action.DOMAIN_CHANGE, domain=domain, detail=", ".join(names))])
        log.info("domain_changed", name=domain, by=grant.name)

    @staticmethod
    def _admitted(grant: Grant, name: str) -> Domain:
        grant.require(Scope.ADMIN)
        try:
            return grant.domain(name, absent=_ABSENT)
        except Invalid:
            raise NotFound(_ABSENT) from None


def _found(domain: HostedDomain | None) -> HostedDomain:
    if domain is None:
        raise NotFound(_ABSENT)
    return domain
