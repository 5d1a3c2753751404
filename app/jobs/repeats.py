"""Logs a trouble that many mails, messages or requests meet at once: once an outage, not once each and at every retry."""

import re
import time

import structlog

log = structlog.get_logger(__name__)

_AGAIN = 3600.0  # seconds after which a trouble that goes on is logged again
_MOST = 1000  # troubles that are remembered
_NAMES = re.compile(r"'[^']*'|\S+@\S+|\S*[0-9a-f]{8}-[0-9a-f]{4}-\S+")


class Repeats:
    """The first of equal troubles is a warning; those that follow within an hour are counted, and logged for debugging only.

    Troubles are equal if their texts are, whatever file, address or id they name.
    """

    def __init__(self, again: float = _AGAIN) -> None:
        self._again = again
        self._told: dict[tuple[str, str], tuple[float, int]] = {}  # when, and how often since

    def tell(self, event: str, reason: str, **facts: object) -> None:
        """Log ``event``, if this trouble is not known yet."""
        key, now = (event, _NAMES.sub("…", reason)), time.monotonic()
        told, since = self._told.get(key, (now - self._again, 0))
        if now - told < self._again:
            self._told[key] = told, since + 1
            log.debug(event, reason=reason, **facts)
            return
        log.warning(event, reason=reason, **facts, more=since or None)
        self._told.pop(key, None)
        self._told[key] = now, 0
        while len(self._told) > _MOST:
            del self._told[next(iter(self._told))]

    def over(self, event: str, *, now: str) -> None:
        """Log ``now``, with how often the troubles of ``event`` were met, if there were any."""
        if not self._told:
            return
        ended = [key for key in self._told if key[0] == event]
        count = sum(self._told.pop(key)[1] + 1 for key in ended)
        if ended:
            log.info(now, times=count)
