"""Finds the grant of a request's ``Authorization`` header; a token seen lately needs no database query.

An address that sent too many wrong tokens gets 429 for each further wrong one. A right token passes all the same, because others
may share that address. Nobody can guess 256 random bits: the limit protects the database, not the tokens.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from app.access import credentials
from app.access.cache import GrantCache
from app.access.grant import Grant
from app.access.limits import FailureLimit
from app.access.model import STATIC_NAME, Found
from app.access.usage import TokenUsage
from app.addressing import Domain
from app.errors import InvalidToken, Unauthorized

# Look-ups at once for all addresses that reached their limit: the pool stays free for others, and a right token waits little.
_NARROW = 2

Find = Callable[[bytes], Awaitable[Found | None]]

_SEND = "send Authorization: Bearer TOKEN"


class Authenticator:
    """Checks tokens by their digests, so the response time does not show how much of a guessed token is right."""

    def __init__(
        self,
        find: Find,
        cache: GrantCache,
        usage: TokenUsage,
        *,
        failures: FailureLimit,
        static_token: str | None,
        default_domain: Domain,
    ) -> None:
        """``static_token`` is VOICEMAIL_API_TOKEN: it allows every domain and scope, and it is never stored."""
        self._find = find
        self._cache = cache
        self._usage = usage
        self._failures = failures
        self._narrow = asyncio.Semaphore(_NARROW)
        self._static = credentials.digest(static_token) if static_token else b""
        self._everything = Grant.everything(STATIC_NAME, default_domain)

    async def grant(self, authorization: str | None, address: str) -> Grant:
        """The grant of a header such as ``Bearer vm_…`` that came from this address.

        Raises ``Unauthorized`` and ``InvalidToken``, or ``TooManyRequests`` instead if the address sent too many wrong tokens.
        Raises ``DatabaseUnavailable`` if the database is away.
        """
        if not authorization:
            raise Unauthorized(_SEND)  # nothing was tried, so nothing failed
        try:
            return await self._grant(authorization, address)
        except Unauthorized:
            self._failures.count(address)
            raise

    async def _grant(self, authorization: str, address: str) -> Grant:
        scheme, _, text = authorization.partition(" ")
        text = text.strip(" ")
        if scheme.lower() != "bearer" or not text:
            raise Unauthorized(_SEND)
        digest = credentials.digest(text)
        known = self._cache.get(digest)
        if known is None:
            if hmac.compare_digest(digest, self._static):
                return self._everything
            if not credentials.well_formed(text):
                raise InvalidToken(_why_malformed(text))
            known = await self._look_up(digest, address)
        self._usage.note(digest)
        return known

    async def _look_up(self, digest: bytes, address: str) -> Grant:
        if not self._failures.reached(address):
            return await self._ask(digest)
        async with self._narrow:
            return await self._ask(digest)

    async def _ask(self, digest: bytes) -> Grant:
        begun = self._cache.begin()
        found = await self._find(digest)
        if found is None:
            raise InvalidToken
        if found.seconds_left <= 0:
            raise InvalidToken("this token has expired")
        self._cache.keep(digest, found.grant, found.seconds_left, begun)
        return found.grant


def _why_malformed(text: str) -> str:
    if text.startswith(credentials.PREFIX):
        return "this token is not valid: its checksum is wrong, so it was cut off or misspelt"
    return "this token is not valid"
