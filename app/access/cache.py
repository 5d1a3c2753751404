"""Grants that were looked up lately, so that most requests ask no database; an entry never outlives what is known to be true."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.access.grant import Grant

WITH_NEWS = 30.0  # seconds that an entry is good for while changes of tokens are heard of
WITHOUT_NEWS = 5.0  # seconds while they are not: the longest time for which a revoked token may still work
_MOST = 10_000


@dataclass(slots=True)
class _Entry:
    grant: Grant
    until: float


class GrantCache:
    """Grants by the digest of their token."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}
        self._hearing = False
        self._news = 0

    def get(self, digest: bytes) -> Grant | None:
        """The grant, if it is still good."""
        entry = self._entries.get(digest)
        return entry.grant if entry is not None and entry.until > self._clock() else None

    def begin(self) -> tuple[float, int]:
        """Call before a look-up, and hand the result to ``keep``."""
        return self._clock(), self._news

    def keep(self, digest: bytes, grant: Grant, seconds_left: float, begun: tuple[float, int]) -> None:
        """Keep what a look-up found, unless a token changed while it was under way: it may have read the state before."""
        began, news = begun
        if news != self._news:
            return
        if len(self._entries) >= _MOST:
            self._entries.clear()
        self._entries[digest] = _Entry(grant, began + min(seconds_left, WITH_NEWS if self._hearing else WITHOUT_NEWS))

    def changed(self, name: str) -> None:
        """Forget what is known of the token of this name."""
        self._news += 1
        for digest in [digest for digest, entry in self._entries.items() if entry.grant.name == name]:
            del self._entries[digest]

    def hearing(self, yes: bool) -> None:
        """Whether changes are heard of from now on. Either way something may have been missed before: forget everything."""
        self._news += 1
        self._hearing = yes
        self._entries.clear()
