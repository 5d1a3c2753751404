"""Listens for tokens revoked or rotated by any copy of the service, and removes them from this copy's cache."""

import asyncio

import structlog

from app.access.cache import GrantCache
from app.access.store import CHANNEL
from app.database.pool import Connection
from app.jobs.retries import Retries
from app.jobs.sessions import SessionLoop

log = structlog.get_logger(__name__)

_RETRY = 0.5  # seconds between tries to connect
_PROBE = 1.0  # seconds between checks of a connection that has been silent
# Probe and answer together stay under cache.WITHOUT_NEWS: a dead connection is noticed within that time.
_ANSWER = 2.0  # seconds


class TokenChanges:
    """Runs LISTEN on its own connection. While the connection is lost, the cache keeps grants for a few seconds only."""

    def __init__(self, dsn: str, cache: GrantCache) -> None:
        self._cache = cache
        retries = Retries(first=_RETRY, longest=_RETRY)
        self._loop = SessionLoop("token_listener", dsn, self._listen, answer=_ANSWER, probe=_PROBE, retries=retries)

    async def run(self) -> None:
        """Listen until cancelled; reconnect if the connection is lost."""
        await self._loop.run()

    async def _listen(self, connection: Connection) -> None:
        await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, name: self._cache.changed(name))
        self._cache.hearing(True)
        log.info("token_listener_began")
        try:
            await asyncio.Event().wait()
        finally:
            self._cache.hearing(False)
