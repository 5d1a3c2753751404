"""Refused requests, counted in memory by address and minute and written in the background.

So no client can make the audit grow fast, and no request waits for it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from app.access.audit.model import Action, AuditEntry, Result, clean
from app.access.grant import Grant
from app.access.origin import Actor
from app.errors import DatabaseFailed, Forbidden, NotFound, Unauthorized, explained
from app.networks import client_of, plain

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


@dataclass(slots=True)
class _Minute:
    number: int
    counts: Counter[_Key] = field(default_factory=Counter)
    rest: Counter[Result] = field(default_factory=Counter)


class Refusals:
    """The requests of this process that ended in 401, 403 or 404. Whatever is not written yet is lost by ``kill -9``."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write, self._clock = write, clock
        self._minute = _Minute(0)
        self._ended: list[_Minute] = []
        self._waiting: list[AuditEntry] = []

    def note(self, error: Exception, grant: Grant, address: str) -> None:
        """Count a request that ended with this error, if it is one that counts."""
        result = next((result for kind, result in _RESULTS if isinstance(error, kind)), None)
        if result is None:
            return
        self._turn_over()
        key = _Key(result, grant.name, grant.token_id, client_of(plain(address)))
        counts = self._minute.counts
        if key in counts or len(counts) < _MOST_KEYS:
            counts[key] += 1
        else:
            self._minute.rest[result] += 1

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
        ended, self._ended = self._ended, []
        entries = [*self._waiting, *(entry for minute in ended for entry in _rows(minute))]
        self._waiting = []
        if not entries:
            return
        try:
            await self._write(entries)
        except BaseException:
            self._waiting = [*entries, *self._waiting][-_MOST_WAITING:]
            raise

    def _turn_over(self, *, at_once: bool = False) -> None:
        """Begin another minute if this one is over; it is on the way of a request, so nothing is made of the last one yet."""
        number = int(self._clock()) // 60
        if number != self._minute.number or at_once:
            if self._minute.counts:
                self._ended.append(self._minute)
            self._minute = _Minute(number)


def _rows(minute: _Minute) -> list[AuditEntry]:
    """The rows of a minute. A token's own refusals first: there are fewer of them, and they say more."""
    at = datetime.fromtimestamp(minute.number * 60, UTC)
    ranked = sorted(minute.counts.items(), key=lambda item: (item[0].name == "", -item[1]))
    for key, count in ranked[ROWS_A_MINUTE:]:
        minute.rest[key.result] += count
    alone = [_entry(key, count, at) for key, count in ranked[:ROWS_A_MINUTE]]
    return [*alone, *(_entry(_Key(result, "", None, ""), count, at) for result, count in minute.rest.items())]


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
