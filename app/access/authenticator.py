"""Finds the grant of a request's ``Authorization`` header; a token seen lately needs no database query."""

import hmac
from collections.abc import Awaitable, Callable

from app.access import credentials
from app.access.cache import GrantCache
from app.access.grant import Grant
from app.access.model import STATIC_NAME, Found
from app.access.usage import TokenUsage
from app.addressing import Domain
from app.errors import InvalidToken, Unauthorized

Find = Callable[[bytes], Awaitable[Found | None]]


class Authenticator:
    """Checks tokens by their digests, so the response time does not show how much of a guessed token is right."""

    def __init__(
        self, find: Find, cache: GrantCache, usage: TokenUsage, *, static_token: str | None, default_domain: Domain
    ) -> None:
        """``static_token`` is VOICEMAIL_API_TOKEN: it allows every domain and scope, and it is never stored."""
        self._find = find
        self._cache = cache
        self._usage = usage
        self._static = credentials.digest(static_token) if static_token else b""
        self._everything = Grant.everything(STATIC_NAME, default_domain)

    async def grant(self, authorization: str | None) -> Grant:
        """The grant of a header such as ``Bearer vm_…``.

        Raises ``Unauthorized`` and ``InvalidToken``, and ``DatabaseUnavailable`` if the database is away.
        """
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip(" ")
        if scheme.lower() != "bearer" or not text:
            raise Unauthorized("send Authorization: Bearer TOKEN")
        digest = credentials.digest(text)
        known = self._cache.get(digest)
        if known is None:
            if hmac.compare_digest(digest, self._static):
                return self._everything
            if not credentials.well_formed(text):
                raise InvalidToken(_why_malformed(text))
            known = await self._look_up(digest)
        self._usage.note(digest)
        return known

    async def _look_up(self, digest: bytes) -> Grant:
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
