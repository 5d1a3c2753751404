"""Chooses the one process that does work which must be done once."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.database.pool import Connection
from app.jobs.retries import Retries
from app.jobs.sessions import SessionLoop

log = structlog.get_logger(__name__)

_LOCK = 0x766F6963656D02  # "voicem", 2
_POLL = 1.0  # seconds between tries to become the leader
_PROBE = 2.0  # seconds between looks at the connection that holds the lock
_STATEMENT = 5.0  # seconds for one statement; the server frees the lock of a vanished host after about 30


class Leader:
    """Leadership, which one process holds at a time: an advisory lock on its own connection."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether this process is the leader now."""
        return self._leading

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` whenever this process is the leader, until cancelled.

        The work is cancelled when the connection is lost, because another process may have the place by then; for that moment two
        may work, so each step must bear being done twice. Work that raises or returns is logged and begun again, maybe elsewhere.
        """

        async def hold(connection: Connection) -> None:
            await self._hold(connection, work)

        retries = Retries(first=_POLL, longest=_POLL)
        await SessionLoop("leader", self._dsn, hold, answer=_STATEMENT, probe=_PROBE, retries=retries).run()

    async def _hold(self, connection: Connection, work: Callable[[], Awaitable[None]]) -> None:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):  # noqa: ASYNC110 - the server says when
            await asyncio.sleep(_POLL)
        self._leading = True
        log.info("leader_began")
        try:
            await work()
        except Exception:
            log.exception("leader_work_failed")
        else:
            log.error("leader_work_returned")
        finally:
            self._leading = False
            log.info("leader_ended", connection_lost=connection.is_closed())
