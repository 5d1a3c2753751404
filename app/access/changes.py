"""Listens for tokens revoked or rotated by any copy of the service, and removes them from this copy's cache."""

import asyncio

import structlog

from app.access.cache import GrantCache
from app.access.store import CHANNEL
from app.database.pool import Connection, connect
from app.errors import explained

log = structlog.get_logger(__name__)

_RETRY = 0.5  # seconds between tries to connect
_PROBE = 1.0  # seconds between checks of a connection that has been silent
# Probe and answer together stay under cache.WITHOUT_NEWS: a dead connection is noticed within that time.
_ANSWER = 2.0  # seconds


class TokenChanges:
    """Runs LISTEN on its own connection. While the connection is lost, the cache keeps grants for a few seconds only."""

    def __init__(self, dsn: str, cache: GrantCache) -> None:
        self._dsn = dsn
        self._cache = cache

    async def run(self) -> None:
        """Listen until cancelled; reconnect if the connection is lost."""
        away = False
        while True:
            try:
                connection = await connect(self._dsn, application_name="tokens", command_timeout=_ANSWER)
                try:
                    await self._listen(connection)
                finally:
                    self._cache.hearing(False)
                    connection.terminate()
                away = False
            except Exception as error:  # noqa: BLE001 - whatever ended this connection, the next one may work
                if not away:
                    log.warning("token_listener_interrupted", error=type(error).__name__, detail=explained(error))
                away = True
            await asyncio.sleep(_RETRY)

    async def _listen(self, connection: Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, name: self._cache.changed(name))
        self._cache.hearing(True)
        log.info("token_listener_began")
        while not lost.is_set():
            try:
                await asyncio.wait_for(lost.wait(), _PROBE)
            except TimeoutError:
                await connection.execute("SELECT 1")
        log.warning("token_listener_lost")
