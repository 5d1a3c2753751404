"""What clients do wrong below HTTP, for the log: a kind, an address and a count, and never what a client sent.

A malformed request may hold a token or a PIN at any place, and a flood of them must not fill the log.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

_WINDOW = 60.0  # seconds for which further errors of one kind and address are only counted
_MOST = 20  # kinds and addresses that a window names; the rest is counted together
_OTHERS = ("others", "")


@dataclass(slots=True)
class _Counted:
    since: float
    told: int = 0
    count: int = 0
    request_id: str | None = None


class ClientErrors:
    """Counts errors by kind and address. The first one is logged at once, further ones together, once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str], _Counted] = {}

    def note(self, kind: str, address: str, request_id: str | None = None) -> None:
        """Something went wrong with a client. ``kind`` is a name of the program, never text of a client."""
        key = (kind, address)
        if key not in self._counts and len(self._counts) >= _MOST:
            key = _OTHERS
        counted = self._counts.get(key)
        if counted is None:
            counted = self._counts[key] = _Counted(self._clock())
        counted.count += 1
        counted.request_id = request_id
        if counted.count == 1:
            self._tell(key, counted)

    def tell(self) -> None:
        """Log what was counted since the last line, if its minute is over. Called every second or so."""
        now = self._clock()
        for key, counted in list(self._counts.items()):
            if now - counted.since < _WINDOW:
                continue
            if counted.count > counted.told:
                self._tell(key, counted)
                counted.since = now
            else:
                del self._counts[key]

    @staticmethod
    def _tell(key: tuple[str, str], counted: _Counted) -> None:
        kind, address = key
        log.warning(
            "client_error", kind=kind, client=address or None, count=counted.count - counted.told, request_id=counted.request_id
        )
        counted.told = counted.count
