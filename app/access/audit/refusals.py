"""Refused requests, counted in memory by address and minute and written in the background.

So no client can make the audit grow fast, and no request waits for it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from app.access.audit.model import Action, AuditEntry, Result, clean, network_of, plain_address
from app.access.grant import Grant
from app.access.origin import Actor
from app.errors import DatabaseFailed, Forbidden, NotFound, Unauthorized, explained

log = structlog.get_logger(__name__)

Write = Callable[[Sequence[AuditEntry]], Awaitable[None]]

_EVERY = 5.0  # seconds between looks whether a minute is over
_LAST_WRITE = 1.0  # seconds when the service stops
ROWS_A_MINUTE = 50  # of one process, and three more that hold the rest, one a result
_MOST_KEYS = 10_000  # in memory; what comes after counts as the rest
_MOST_WAITING = 60 * ROWS_A_MINUTE  # rows while the database is away; then the oldest are dropped
_RESULTS = ((Unauthorized, Result.UNAUTHORIZED), (Forbidden, Result.FORBIDDEN), (NotFound, Result.NOT_FOUND))


class _Key(NamedTuple):
    result: Result
    name: str
    token_id: UUID | None
    network: str


class Refusals:
    """The requests of this process that ended in 401, 403 or 404. Whatever is not written yet is lost by ``kill -9``."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write, self._clock = write, clock
        self._minute = 0
        self._counts: Counter[_Key] = Counter()
        self._rest: Counter[Result] = Counter()
        self._waiting: list[AuditEntry] = []

    def note(self, error: Exception, grant: Grant, address: str) -> None:
        """Count a request that ended with this error, if it is one that counts."""
        result = next((result for kind, result in _RESULTS if isinstance(error, kind)), None)
        if result is None:
            return
        self._turn_over()
        key = _Key(result, grant.name, grant.token_id, network_of(plain_address(address)))
        if key in self._counts or len(self._counts) < _MOST_KEYS:
            self._counts[key] += 1
        else:
            self._rest[result] += 1

    async def run(self) -> None:
        """Write the minutes that are over until cancelled, and then what is left."""
        away = False
        try:
            while True:
                await asyncio.sleep(_EVERY)
                try:
                    await self.flush()
                    away = False
                except DatabaseFailed as error:
                    if not away:
                        log.warning("audit_refusals_not_written", reason=error.reason)
                    away = True
        finally:
            try:
                await asyncio.wait_for(self.flush(unfinished=True), _LAST_WRITE)
            except (DatabaseFailed, TimeoutError) as error:
                log.warning("audit_refusals_not_written", reason=explained(error))

    async def flush(self, *, unfinished: bool = False) -> None:
        """Write the minutes that are over, and this one too if it is ``unfinished``. What cannot be written waits on."""
        self._turn_over(at_once=unfinished)
        taken, self._waiting = self._waiting, []
        if not taken:
            return
        try:
            await self._write(taken)
        except BaseException:
            self._waiting = [*taken, *self._waiting][-_MOST_WAITING:]
            raise

    def _turn_over(self, *, at_once: bool = False) -> None:
        """Make rows of the minute that was counted, if it is over."""
        minute = int(self._clock()) // 60
        if minute == self._minute and not at_once:
            return
        # A token's own refusals first: there are fewer of them, and they say more.
        ranked = sorted(self._counts.items(), key=lambda item: (item[0].name == "", -item[1]))
        for key, count in ranked[ROWS_A_MINUTE:]:
            self._rest[key.result] += count
        rows = [*ranked[:ROWS_A_MINUTE], *((_Key(result, "", None, ""), count) for result, count in self._rest.items())]
        at = datetime.fromtimestamp(self._minute * 60, UTC)
        self._waiting = [*self._waiting, *(_entry(key, count, at) for key, count in rows)][-_MOST_WAITING:]
        self._counts.clear()
        self._rest.clear()
        self._minute = minute


def _entry(key: _Key, count: int, at: datetime) -> AuditEntry:
    return AuditEntry(
        action=Action.REQUEST,
        result=key.result,
        actor=Actor.TOKEN if key.name else Actor.NOBODY,
        name=clean(key.name),
        token_id=key.token_id,
        address=key.network,
        count=min(count, 2**31 - 1),
        at=at,
    )
