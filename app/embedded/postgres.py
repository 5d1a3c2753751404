"""A PostgreSQL server that starts and stops with the service, for labs, tests and small sites."""

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

import structlog

from app.embedded import reaper
from app.embedded.account import choose_account
from app.embedded.binaries import find_binaries
from app.embedded.cluster import DATABASE, ROLE, Cluster, Postmaster
from app.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

_LOOK = 1.0  # seconds between looks at whether the server lives
_TURN = 180.0  # seconds to wait for another process that is starting or stopping this server


class EmbeddedPostgres:
    """The server on the data in one folder.

    It listens on 127.0.0.1 only and wants a password (``password`` in the folder, mode 0600). Several processes may use one
    folder: the first process starts the server, and the server stops after the last process ended, even by kill -9.
    """

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        """``options``: server settings for a server that this process starts, such as ``{"fsync": "off"}`` in tests."""
        self._options = options
        self._folder = data_dir.absolute()
        self._users: BufferedRandom | None = None
        self._cluster: Cluster | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._interrupted = threading.Event()

    async def start(self) -> str:
        """Start the server or join the one that runs; returns its DSN with the password. Raises ``DatabaseUnavailable``."""
        self._interrupted.clear()
        work = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._interrupted.set()
            await asyncio.wait([work])
            work.exception()  # the exception was retrieved; the caller already knows about the interruption
            await self.stop()
            raise

    async def run(self) -> None:
        """Start the server again whenever it died, until cancelled. Its port stays the same, and so does the DSN."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await asyncio.to_thread(self._revive)
            except (DatabaseUnavailable, OSError) as error:
                log.error("database_not_revived", error=type(error).__name__, detail=str(error))

    async def stop(self) -> None:
        """Leave the server; it stops when no other process uses it."""
        await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(self._stop)))

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _start(self) -> str:
        if self._users is not None:
            raise DatabaseUnavailable("the embedded database was started already")
        self._cluster = cluster = self._open()
        with self._turn():
            alone = self._join()
            try:
                password = cluster.password() if alone or cluster.running() is None else self._read_password()
                found = self._serve(cluster, alone)
            except BaseException:
                self._leave()
                raise
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{found.port}/{DATABASE}"

    def _revive(self) -> None:
        if self._users is None or self._cluster is None or self._cluster.running():
            return
        with self._turn():
            log.error("database_died", folder=str(self._folder))
            self._serve(self._cluster, alone=False)

    def _open(self) -> Cluster:
        fresh = not self._folder.exists()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        version = self._folder / "cluster" / "PG_VERSION"
        binaries = find_binaries(int(version.read_text()) if version.exists() else None)
        # The server needs the folders above its programs and its data; its own data folder is made its own.
        account = choose_account(self._folder, [self._folder.parent, binaries.folder])
        if fresh or self._folder.stat().st_uid != account.uid:
            account.give(self._folder)
        self._folder.chmod(0o700)
        for name in ("turn.lock", "users.lock"):
            os.close(os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600))
            account.give(self._folder / name)
        return Cluster(self._folder, binaries, account, self._interrupted, self._options)

    def _read_password(self) -> str:
        return (self._folder / "password").read_text().strip()

    def _turn(self) -> BufferedRandom:
        """The lock under which one process at a time starts or stops this server."""
        turn = open(self._folder / "turn.lock", "r+b")  # noqa: SIM115 - the caller closes it, and that unlocks it
        deadline = time.monotonic() + _TURN
        while not _lock(turn, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                turn.close()
                raise DatabaseUnavailable(f"another process has been starting the database in {self._folder} for too long")
            time.sleep(0.02)
        return turn

    def _join(self) -> bool:
        """Register as a user of the server; returns whether this process is the only one."""
        self._users = open(self._folder / "users.lock", "r+b")  # noqa: SIM115 - held until _leave
        alone = False
        while True:
            alone = alone or _lock(self._users, fcntl.LOCK_EX)
            if _lock(self._users, fcntl.LOCK_SH):
                return alone
            time.sleep(0.02)

    def _leave(self) -> None:
        if self._users is not None:
            self._users.close()
            self._users = None
        if self._reaper is not None:
            try:
                self._reaper.wait(timeout=reaper.PATIENCE)
            except subprocess.TimeoutExpired:
                log.warning("database_still_stopping", folder=str(self._folder))
            self._reaper = None

    def _serve(self, cluster: Cluster, alone: bool) -> Postmaster:
        began = time.monotonic()
        found = cluster.running()
        how = "joined" if found else "started"
        if found is None:
            if (pid := cluster.leftover()) is not None:
                log.warning("database_left_behind", pid=pid, folder=str(self._folder))
                cluster.stop(pid)
            found = cluster.start()
        elif alone:
            how = "adopted"  # its users and its reaper were killed
        if how != "joined":
            self._watch(cluster, found)
        log.info("database_ready", how=how, port=found.port, pid=found.pid, seconds=round(time.monotonic() - began, 3))
        return found

    def _watch(self, cluster: Cluster, found: Postmaster) -> None:
        self._reaper = subprocess.Popen(  # noqa: S603 - our own program and paths
            [sys.executable, "-I", "-S", reaper.__file__, self._folder / "users.lock", cluster.data, str(found.pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )

    def _stop(self) -> None:
        if self._users is None or self._cluster is None:
            return
        began = time.monotonic()
        with self._turn():
            found = self._cluster.running()
            if found is not None and _lock(self._users, fcntl.LOCK_EX):
                self._cluster.stop(found.pid)
                log.info("database_stopped", seconds=round(time.monotonic() - began, 3))
            else:
                self._reaper = None  # others still use the server; the reaper waits for them
            self._leave()


def _lock(file: BufferedRandom, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
