"""The loop for work that needs a database connection of its own: made again when it is lost, as long as the service runs."""

import asyncio
from collections.abc import Awaitable, Callable

from app.database.pool import Connection, connect
from app.errors import explained
from app.jobs.loop import Trouble
from app.jobs.retries import Retries

Work = Callable[[Connection], Awaitable[None]]


class SessionLoop:
    """Runs work that holds on to one connection, for LISTEN or for a lock.

    The work is cancelled when its connection is lost, and begins anew on the next one. Work that returns or raises begins anew
    too. A trouble is logged when it begins, as ``NAME_interrupted``, and when it is over.
    """

    def __init__(self, name: str, dsn: str, work: Work, *, answer: float, retries: Retries, probe: float | None = None) -> None:
        """``answer``: seconds for one statement; a server that stalls is left then.

        ``probe``: seconds between looks at the connection, which find a server that vanished in silence; None: the work's own
        statements find it.
        """
        self._name, self._dsn, self._work = name, dsn, work
        self._answer, self._retries, self._probe = answer, retries, probe
        self._trouble = Trouble(name)

    async def run(self) -> None:
        """Work until cancelled."""
        failures = 0
        while True:
            try:
                connection = await connect(self._dsn, application_name=self._name, command_timeout=self._answer)
                failures = 0
                self._trouble.over()
                await self._work_until_lost(connection)
            # A statement that was queued behind the one under which the server died may end in any way, and the next connection
            # may work whatever ended this one.
            except Exception as error:  # noqa: BLE001
                failures += 1
                if not self._trouble:
                    self._trouble.tell(explained(error), event=f"{self._name}_interrupted", error=type(error).__name__)
            await asyncio.sleep(self._retries.delay(failures))

    async def _work_until_lost(self, connection: Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        work = asyncio.ensure_future(self._work(connection))
        watch = asyncio.ensure_future(self._watch(connection, lost))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                # Before the work is cancelled, so that it can tell a connection that was lost from a service that stops.
                connection.terminate()
                raise ConnectionResetError("the connection was lost")
            await work
        finally:
            watch.cancel()
            work.cancel()
            await asyncio.wait({work, watch})
            connection.terminate()

    async def _watch(self, connection: Connection, lost: asyncio.Event) -> None:
        """Return when the connection is lost, or does not answer, which is the same to the others."""
        while not lost.is_set():
            try:
                async with asyncio.timeout(self._probe):
                    await lost.wait()
            except TimeoutError:
                try:
                    await connection.execute("SELECT 1")
                except Exception:  # noqa: BLE001 - whatever it was, this connection holds nothing any more
                    lost.set()
