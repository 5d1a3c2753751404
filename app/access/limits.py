"""How much one caller may ask: refused tokens an address, requests a token, downloads at once a token.

Each copy of the service counts for itself, in bounded memory. The package ``limits`` is not used because its storage in memory is
unbounded and walks through all keys to forget old ones: an attacker with many addresses would cost memory and time.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import TooManyRequests
from app.networks import client_of

_MOST = 10_000  # keys that a counter remembers
_TRY_AGAIN = 1.0  # seconds until another download may have ended


@dataclass(slots=True)
class _Count:
    began: float
    hits: int = 0


class Window:
    """Counts hits by key: at most ``limit`` in a time of ``seconds``, which begins with a key's first hit.

    At most ``most`` keys are remembered. If there are more, the key whose time began first is forgotten, and begins anew.
    """

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic, most: int = _MOST) -> None:
        self._limit, self._seconds = limit, seconds
        self._clock = clock
        self._most = most
        self._counts: OrderedDict[str, _Count] = OrderedDict()  # in the order in which their times began

    def hit(self, key: str) -> float:
        """Count a hit: 0 if it is within the limit, else the seconds until the key's time is over."""
        now = self._clock()
        count = self._counts.get(key)
        if count is None or now - count.began >= self._seconds:
            count = self._begin(key, now)
        if count.hits >= self._limit:
            return count.began + self._seconds - now
        count.hits += 1
        return 0.0

    def full(self, key: str) -> bool:
        """Whether the next hit would be beyond the limit."""
        count = self._counts.get(key)
        return count is not None and count.hits >= self._limit and self._clock() - count.began < self._seconds

    def _begin(self, key: str, now: float) -> _Count:
        self._counts.pop(key, None)
        if len(self._counts) >= self._most:
            self._counts.popitem(last=False)
        count = self._counts[key] = _Count(now)
        return count

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._counts)


class FailureLimit:
    """Tokens that were refused, by the address that sent them; an IPv6 address counts as its /64."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = Window(a_minute, 60.0, clock)

    def reached(self, address: str) -> bool:
        """Whether the next failure from here is beyond the limit."""
        return self._window.full(client_of(address))

    def count(self, address: str) -> None:
        """A token from here was refused. Raises ``TooManyRequests`` beyond the limit."""
        if wait := self._window.hit(client_of(address)):
            raise TooManyRequests("too many refused tokens from this address; a valid token is accepted all the same", wait)


class RequestLimit:
    """Requests of each token."""

    def __init__(self, a_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = Window(a_second, 1.0, clock)

    def count(self, token: str) -> None:
        """A request came with this token. Raises ``TooManyRequests`` beyond the limit."""
        if wait := self._window.hit(token):
            raise TooManyRequests("this token asks too often", wait)


class DownloadLimit:
    """Downloads under way of each token."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._under_way: Counter[str] = Counter()

    def begin(self, token: str) -> Callable[[], None]:
        """What to call when the download is over; a second call does nothing. Raises ``TooManyRequests`` beyond the limit."""
        if self._under_way[token] >= self._at_once:
            raise TooManyRequests(f"this token has {self._at_once} downloads under way, which is as many as it may", _TRY_AGAIN)
        self._under_way[token] += 1
        over = False

        def end() -> None:
            nonlocal over
            if over:
                return
            over = True
            self._under_way[token] -= 1
            if not self._under_way[token]:
                del self._under_way[token]

        return end


class Limits:
    """All of them."""

    def __init__(self, *, failures_a_minute: int, requests_a_second: int, downloads_at_once: int) -> None:
        self.failures = FailureLimit(failures_a_minute)
        self.requests = RequestLimit(requests_a_second)
        self.downloads = DownloadLimit(downloads_at_once)
