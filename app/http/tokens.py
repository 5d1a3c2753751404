"""Bearer tokens: made once, kept as SHA-256, checked on every request."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from app.database.pool import Pool
from app.errors import Conflict, Invalid, NotFound, Unauthorized

_NAME = re.compile(r"[0-9A-Za-z._@-]{1,64}")
_FRESH = 30.0  # seconds for which a token that was good is not looked up again
_MOST_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may see: every domain (None), or some."""

    domains: frozenset[str] | None = None
    name: str = ""

    def allows(self, domain: str) -> bool:
        """Whether things of this domain exist for the request."""
        return self.domains is None or domain in self.domains


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without the token."""

    name: str
    domains: tuple[str, ...] | None


class TokenStore:
    """The tokens in ``voicemail.api_token``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, name: str, domains: Sequence[str] | None = None) -> str:
        """Make a token and return it, this once. Raises ``Invalid`` and ``Conflict``."""
        if not _NAME.fullmatch(name):
            raise Invalid.field("name", "must be 1 to 64 characters of 0-9 A-Z a-z . _ @ -")
        token = secrets.token_urlsafe(32)
        try:
            await self._pool.execute(
                "INSERT INTO voicemail.api_token (name, digest, domains) VALUES ($1, $2, $3)",
                name,
                _digest(token),
                list(domains) if domains is not None else None,
            )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"there is a token named {name} already; revoke it first") from None
        return token

    async def list(self) -> list[TokenInfo]:
        """The tokens by name."""
        rows = await self._pool.fetch("SELECT name, domains FROM voicemail.api_token ORDER BY name")
        return [TokenInfo(row["name"], tuple(row["domains"]) if row["domains"] is not None else None) for row in rows]

    async def revoke(self, name: str) -> None:
        """Withdraw a token; every process refuses it within half a minute. Raises ``NotFound``."""
        if await self._pool.execute("DELETE FROM voicemail.api_token WHERE name = $1", name) == "DELETE 0":
            raise NotFound(f"there is no token named {name}")

    async def find(self, digest: bytes) -> Grant | None:
        """The grant of the token with this digest, by its unique index."""
        row = await self._pool.fetchrow("SELECT name, domains FROM voicemail.api_token WHERE digest = $1", digest)
        return row and Grant(frozenset(row["domains"]) if row["domains"] is not None else None, row["name"])


class Authenticator:
    """Says what a request's ``Authorization`` header grants."""

    def __init__(self, store: TokenStore, static_token: str | None) -> None:
        """``static_token`` is VOICEMAIL_API_TOKEN: all rights, stored nowhere."""
        self._store = store
        self._static = _digest(static_token) if static_token else None
        self._known: dict[bytes, tuple[Grant, float]] = {}

    async def grant(self, authorization: str | None) -> Grant:
        """The grant of a header such as ``Bearer abc``. Raises ``Unauthorized``; a database that is away raises its own error.

        Digests are compared, not tokens, so that neither the comparison nor the index lookup tells by its time how much of a
        guess was right.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("send Authorization: Bearer TOKEN")
        digest = _digest(token)
        if self._static is not None and hmac.compare_digest(digest, self._static):
            return Grant(None, "VOICEMAIL_API_TOKEN")
        known = self._known.get(digest)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        self._known.pop(digest, None)
        found = await self._store.find(digest)
        if found is None:
            raise Unauthorized("this token is not valid")
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[digest] = (found, time.monotonic() + _FRESH)
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
