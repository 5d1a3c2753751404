"""Chooses the one process that does work which must be done once."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.database.pool import Connection, connect
from app.errors import explained

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
        away = False
        while True:
            try:
                connection = await connect(self._dsn, application_name="leader", command_timeout=_STATEMENT)
                away = False
                try:
                    await self._hold(connection, work)
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001 - whatever ended this connection, the next one may work
                if not away:
                    log.warning("leader_interrupted", error=type(error).__name__, detail=explained(error))
                away = True
            await asyncio.sleep(_POLL)

    async def _hold(self, connection: Connection, work: Callable[[], Awaitable[None]]) -> None:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):  # noqa: ASYNC110 - the server says when
            await asyncio.sleep(_POLL)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        watch = asyncio.ensure_future(_watch(connection, lost))
        task = asyncio.ensure_future(_logged(work))
        self._leading = True
        log.info("leader_began")
        try:
            await asyncio.wait({watch, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leading = False
            watch.cancel()
            task.cancel()
            await asyncio.wait({watch, task})
            log.info("leader_ended", connection_lost=lost.is_set())


async def _watch(connection: Connection, lost: asyncio.Event) -> None:
    """Return when the connection is lost, or does not answer, which is the same to the others."""
    while not lost.is_set():
        try:
            await asyncio.wait_for(lost.wait(), _PROBE)
        except TimeoutError:
            try:
                await connection.execute("SELECT 1")
            except Exception:  # noqa: BLE001 - whatever it was, this connection holds nothing any more
                lost.set()


async def _logged(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        log.exception("leader_work_failed")
    else:
        log.error("leader_work_returned")
