"""Creates, shows, rotates and revokes tokens. A caller cannot give a token more rights than the caller has."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from app.access import credentials, store
from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.access.model import Found, NewToken, TokenInfo, token_name
from app.access.scopes import EVERY, Scope
from app.addressing import Domain
from app.database.pool import Connection, Pool
from app.errors import Conflict, Forbidden, Invalid, NotFound

log = structlog.get_logger(__name__)

LIFETIME = timedelta(days=365)
LONGEST_LIFETIME = timedelta(days=3653)
OVERLAP = timedelta(hours=1)
LONGEST_OVERLAP = timedelta(days=30)


class Tokens:
    """The tokens in the database. Each function needs the scope admin, and sees the tokens within the caller's domains."""

    def __init__(self, pool: Pool, default_domain: Domain) -> None:
        self._pool = pool
        self._default_domain = default_domain

    async def page(self, grant: Grant, *, limit: int, offset: int) -> tuple[list[TokenInfo], int]:
        """Tokens by name, and how many there are."""
        grant.require(Scope.ADMIN)
        async with self._pool.acquire() as connection:
            return await store.page(connection, grant.domains, limit=limit, offset=offset)

    async def get(self, grant: Grant, name: str) -> TokenInfo:
        """The token of this name. Raises ``NotFound``."""
        grant.require(Scope.ADMIN)
        async with self._pool.acquire() as connection:
            return await self._shown(connection, grant, name)

    async def create(self, grant: Grant, new: NewToken) -> tuple[TokenInfo, str]:
        """A new token and its text, which nobody can show again.

        Raises ``Invalid``, ``Conflict`` if the name is taken, and ``Forbidden`` for scopes or domains that the caller lacks.
        """
        grant.require(Scope.ADMIN)
        token_name(new.name)
        new = _with_default(new)
        self._check_domains(grant, new)
        self._check_scopes(grant, new.scopes_held)
        expires_at = _expiry(new.expires_at)
        text = credentials.make()
        async with self._pool.acquire() as connection, connection.transaction():
            named = new.domains or ((new.default_domain,) if new.default_domain else ())
            if missing := await store.missing_domains(connection, named):
                raise Invalid.field("domains", f"there is no domain {missing[0]}; make it first")
            if not await store.insert(connection, new):
                raise Conflict(f"there is a token named {new.name} already; revoke it first, or rotate it")
            await store.add_secret(connection, new.name, credentials.digest(text), expires_at)
            made = await self._shown(connection, grant, new.name)
            await audit.insert(connection, [_entry(grant, Action.TOKEN_CREATE, made, _allows(made))])
        log.info("token_created", name=new.name, by=grant.name)
        return made, text

    async def rotate(
        self, grant: Grant, name: str, *, overlap: timedelta = OVERLAP, expires_at: datetime | None = None
    ) -> tuple[TokenInfo, str]:
        """A new text for a token; the text before it stays valid for ``overlap``. Raises as ``create`` does, and ``NotFound``."""
        grant.require(Scope.ADMIN)
        if not timedelta() <= overlap <= LONGEST_OVERLAP:
            raise Invalid.field("overlap", f"must be 0 to {LONGEST_OVERLAP.days} days")
        until = _expiry(expires_at)
        text = credentials.make()
        async with self._pool.acquire() as connection, connection.transaction():
            await self._locked(connection, grant, name)
            self._check_scopes(grant, (await self._shown(connection, grant, name)).scopes_held)
            await store.retire_secrets(connection, name, overlap.total_seconds())
            await store.add_secret(connection, name, credentials.digest(text), until)
            shown = await self._shown(connection, grant, name)
            detail = f"expires {shown.expires_at:%Y-%m-%d}; the old text after {overlap.total_seconds():.0f} s"
            await audit.insert(connection, [_entry(grant, Action.TOKEN_ROTATE, shown, detail)])
        log.info("token_rotated", name=name, by=grant.name)
        return shown, text

    async def revoke(self, grant: Grant, name: str) -> None:
        """Withdraw a token; every copy of the service refuses it at once. Raises ``NotFound``."""
        grant.require(Scope.ADMIN)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._locked(connection, grant, name)
            entry = _entry(grant, Action.TOKEN_REVOKE, await self._shown(connection, grant, name))
            await store.delete(connection, name)
            await audit.insert(connection, [entry])
        log.info("token_revoked", name=name, by=grant.name)

    async def find(self, digest: bytes) -> Found | None:
        """The token with this digest. For the authenticator, which has no grant yet."""
        return await store.find(self._pool, digest, self._default_domain)

    async def _shown(self, connection: Connection, grant: Grant, name: str) -> TokenInfo:
        found = await store.get(connection, grant.domains, name) if _possible(name) else None
        if found is None:
            raise _absent()
        return found

    async def _locked(self, connection: Connection, grant: Grant, name: str) -> None:
        if not _possible(name) or not await store.lock(connection, grant.domains, name):
            raise _absent()

    @staticmethod
    def _check_domains(grant: Grant, new: NewToken) -> None:
        if new.domains is not None and not new.domains:
            raise Invalid.field("domains", "must name at least one domain")
        if new.default_domain and new.domains is not None and new.default_domain not in new.domains:
            raise Invalid.field("default_domain", "must be one of the token's domains")
        if new.domains is None and not grant.covers(None):
            raise Forbidden(detail="a token for some domains cannot make one for every domain")
        for domain in new.domains or ():
            if not grant.allows(domain):
                raise Invalid.field("domains", f"there is no domain {domain}; make it first")

    @staticmethod
    def _check_scopes(grant: Grant, scopes: frozenset[Scope]) -> None:
        if not scopes:
            raise Invalid.field("scopes", "must name at least one scope")
        for scope in sorted(scopes - grant.scopes):
            raise Forbidden(scope)


def _entry(grant: Grant, action: Action, token: TokenInfo, detail: str = "") -> AuditEntry:
    """What was done with a token. A token of one domain is the business of that domain's administrators too."""
    domain = next(iter(token.domains)) if token.domains is not None and len(token.domains) == 1 else None
    detail = f"id {token.id}; {detail}" if detail else f"id {token.id}"
    return AuditEntry.of(grant, action, domain=domain, target=token.name, detail=detail)


def _allows(token: TokenInfo) -> str:
    scopes = EVERY if token.scopes is None else " ".join(sorted(token.scopes))
    domains = EVERY if token.domains is None else " ".join(sorted(token.domains))
    return f"expires {token.expires_at:%Y-%m-%d}; scopes {scopes}; domains {domains}"


def _with_default(new: NewToken) -> NewToken:
    return replace(new, default_domain=new.domains[0]) if new.domains and new.default_domain is None else new


def _absent() -> NotFound:
    return NotFound("there is no such token")


def _possible(name: str) -> bool:
    try:
        return bool(token_name(name))
    except Invalid:
        return False


def _expiry(asked: datetime | None) -> datetime:
    now = datetime.now(UTC)
    if asked is None:
        return now + LIFETIME
    if not now < asked <= now + LONGEST_LIFETIME:
        raise Invalid.field("expires_at", "must be in the future and at most 10 years from now")
    return asked
