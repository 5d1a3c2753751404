"""A cache of grants, so that most requests need no database query. An entry is dropped as soon as it may be wrong."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.access.grant import Grant

WITH_NEWS = 30.0  # seconds that an entry is valid while the connection that reports changed tokens is up
WITHOUT_NEWS = 5.0  # seconds while that connection is down: the longest time that a revoked token may still work
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
        """The grant, if the entry is still valid."""
        entry = self._entries.get(digest)
        return entry.grant if entry is not None and entry.until > self._clock() else None

    def begin(self) -> tuple[float, int]:
        """Call before a look-up, and hand the result to ``keep``."""
        return self._clock(), self._news

    def keep(self, digest: bytes, grant: Grant, seconds_left: float, begun: tuple[float, int]) -> None:
        """Keep the result of a look-up, unless a token changed during it: the look-up may have read the old state."""
        began, news = begun
        if news != self._news:
            return
        if len(self._entries) >= _MOST:
            self._entries.clear()
        self._entries[digest] = _Entry(grant, began + min(seconds_left, WITH_NEWS if self._hearing else WITHOUT_NEWS))

    def changed(self, name: str) -> None:
        """Remove the entries of the token with this name."""
        self._news += 1
        for digest in [digest for digest, entry in self._entries.items() if entry.grant.name == name]:
            del self._entries[digest]

    def hearing(self, yes: bool) -> None:
        """Note whether the change listener is connected. A change may have been missed, so remove all entries."""
        self._news += 1
        self._hearing = yes
        self._entries.clear()
