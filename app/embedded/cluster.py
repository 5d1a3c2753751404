"""One PostgreSQL cluster on disk: made once, started, and stopped. Everything here blocks; ``embedded`` runs it in a thread."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.embedded.account import Account
from app.embedded.binaries import Binaries
from app.embedded.reaper import alive, running
from app.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

ROLE = "voicemail"
DATABASE = "voicemail"
START_PATIENCE = 120.0  # seconds: a crash recovery may have to read much
LOCK_PATIENCE = 10.0  # seconds for the last processes of a killed server to notice
STOP_PATIENCE = 20.0

_HBA = "# Made by voicemail: this machine only, and only with a password.\nhost all all 127.0.0.1/32 scram-sha-256\n"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements may hold what does not belong in a log
    "logging_collector": "off",
    "jit": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
}
# The server does not get this process's environment, which holds the service's secrets.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
_LOG_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server: its process and the port it listens on."""

    pid: int
    port: int


class Cluster:
    """The files of one cluster below ``folder`` and the server on them."""

    def __init__(
        self,
        folder: Path,
        binaries: Binaries,
        account: Account,
        interrupted: threading.Event,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """``interrupted``: set when the caller stops waiting; a start or an initdb under way is then stopped.

        ``options``: server settings that win over this module's own.
        """
        self._interrupted = interrupted
        self._options = _OPTIONS | dict(options or {})
        self._folder = folder
        self._binaries = binaries
        self._account = account
        self.data = folder / "cluster"
        self._log = folder / "postgres.log"
        self._child: subprocess.Popen[bytes] | None = None

    def running(self) -> Postmaster | None:
        """The running server of this cluster, also if another process started it."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid, port, state = int(lines[0]), int(lines[3]), lines[7].strip()
        except (OSError, ValueError, IndexError):
            return None
        return Postmaster(pid, port) if state == "ready" and self._serves(pid) else None

    def leftover(self) -> int | None:
        """The process id of this cluster's server, in any state."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if self._serves(pid) else None

    def _serves(self, pid: int) -> bool:
        # After a reboot the process id in the file may belong to another program.
        if not alive(pid):
            return False
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", self.data)
        except FileNotFoundError:
            return not Path("/proc/self").exists() and alive(pid)
        except PermissionError:
            return Path(f"/proc/{pid}/comm").read_text().startswith("postgres")

    def password(self) -> str:
        """The password of the service's role; one is made, and set in the cluster, if it is missing."""
        path = self._folder / "password"
        if not self.data.exists():
            self._create()
        if not path.exists():
            password = secrets.token_urlsafe(24)
            self._single_user(self.data, f"ALTER ROLE {ROLE} PASSWORD '{password}';\n")
            self._keep_password(password)
        return path.read_text().strip()

    def _keep_password(self, password: str) -> None:
        fresh = self._folder / "password.new"
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password + "\n")
            os.fsync(file.fileno())
        self._account.give(fresh)
        fresh.replace(self._folder / "password")

    def _create(self) -> None:
        """Make the cluster in a temporary folder and rename it, so an incomplete cluster is never used."""
        began = time.monotonic()
        log.info("database_being_made", folder=str(self._folder), version=self._binaries.major)
        fresh = self._folder / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._account.give(fresh)
        self._run(self._binaries.initdb, "-D", fresh, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=reject")
        (fresh / "pg_hba.conf").write_text(_HBA)
        password = secrets.token_urlsafe(24)
        self._single_user(
            fresh,
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';\nCREATE DATABASE {DATABASE} OWNER {ROLE};\n",
        )
        self._keep_password(password)
        fresh.rename(self.data)
        log.info("database_made", folder=str(self._folder), seconds=round(time.monotonic() - began, 2))

    def _single_user(self, data: Path, statements: str) -> None:
        options = ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "-c", "password_encryption=scram-sha-256"]
        self._run(self._binaries.postgres, "--single", "-D", data, *options, "template1", stdin=statements)

    def _run(self, program: Path, *arguments: str | Path, stdin: str = "") -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell, and paths of our own
                [*self._account.prefix, program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
                **self._account.popen(),
            )
        except OSError as error:
            raise DatabaseUnavailable(f"{program.name} could not be run: {type(error).__name__}") from error
        said = self._wait(process, program.name, stdin)
        if process.returncode != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            raise DatabaseUnavailable(f"{program.name} failed: {lines[-1] if lines else f'exit status {process.returncode}'}")

    def _wait(self, process: "subprocess.Popen[bytes]", name: str, stdin: str) -> bytes:
        """Wait for a program and return its standard error. If the caller stops waiting, kill the program and its children."""
        deadline = time.monotonic() + START_PATIENCE
        given: bytes | None = stdin.encode()
        while True:
            try:
                return process.communicate(given, timeout=0.05)[1]
            except subprocess.TimeoutExpired:
                given = None  # the program has received it
            if self._interrupted.is_set() or time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise DatabaseUnavailable(f"{name} was interrupted" if self._interrupted.is_set() else f"{name} took too long")

    def start(self) -> Postmaster:
        """Start the server and wait until it accepts connections. Raises ``DatabaseUnavailable`` with its own reason."""
        began = time.monotonic()
        self._remove_foreign_pid_file()
        port = self._kept_port()
        while True:
            reason = self._attempt(port)
            found = self.running()
            if found is not None and self._child is not None and found.pid == self._child.pid:
                self._write("port", str(found.port))
                return found
            if "Address already in use" in reason:
                port = _free_port()
            elif not ("already exists" in reason or "still in use" in reason) or time.monotonic() > began + LOCK_PATIENCE:
                raise DatabaseUnavailable(f"the embedded database did not start: {reason} (see {self._log})")
            else:
                time.sleep(0.1)

    def _attempt(self, port: int) -> str:
        """Start the server once; what it said when it ended, or nothing when it became ready."""
        offset = self._rotated_log_size()
        options = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        with open(self._log, "ab") as output:
            self._account.give(self._log)
            self._child = subprocess.Popen(  # noqa: S603 - no shell, and paths of our own
                [*self._account.prefix, self._binaries.postgres, "-D", self.data, "-p", str(port), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C in a terminal must stop only the service; the server stops after its users
                **self._account.popen(),
            )
        deadline = time.monotonic() + START_PATIENCE
        while self._child.poll() is None:
            if (found := self.running()) is not None and found.pid == self._child.pid:
                return ""
            if self._interrupted.is_set():
                self.stop(self._child.pid)
                return "it was interrupted"
            if time.monotonic() > deadline:
                self.stop(self._child.pid)
                return f"it was not ready after {START_PATIENCE:.0f} s"
            time.sleep(0.01)
        with open(self._log, "rb") as output:
            output.seek(offset)
            return _reason(output.read().decode(errors="replace"))

    def _rotated_log_size(self) -> int:
        if not self._log.exists():
            os.close(os.open(self._log, os.O_WRONLY | os.O_CREAT, 0o600))
        if self._log.stat().st_size > _LOG_LIMIT:
            self._log.replace(self._log.with_suffix(".log.1"))
            return 0
        return self._log.stat().st_size

    def _remove_foreign_pid_file(self) -> None:
        # PostgreSQL treats any living process with this id as another server.
        path = self.data / "postmaster.pid"
        try:
            pid = int(path.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return
        if alive(pid) and not self._serves(pid):
            path.unlink()

    def _kept_port(self) -> int:
        try:
            port = int((self._folder / "port").read_text())
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except (OSError, ValueError, OverflowError):
            return _free_port()
        return port

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.write_text(text + "\n")
        self._account.give(path)

    def stop(self, pid: int) -> None:
        """Stop the server in fast mode, then in immediate mode, then with SIGKILL."""
        for number, patience in ((signal.SIGINT, STOP_PATIENCE), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + patience
            while self._still(pid) and time.monotonic() < deadline:
                time.sleep(0.005)
            if not self._still(pid):
                break
        if self._child is not None and self._child.pid == pid:
            self._child.wait()
            self._child = None

    def _still(self, pid: int) -> bool:
        if self._child is not None and self._child.pid == pid:
            return self._child.poll() is None
        return running(self.data, pid) or alive(pid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reason(text: str) -> str:
    """The line of the server's log that says why it ended; the reason of a port in use stands before the FATAL line."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "could not bind" in line]
    shown = " ".join(said[:2] or lines[-1:]) or "it ended without a message"
    return shown.partition("FATAL:  ")[2] if shown.count("FATAL:") == 1 and "could not bind" not in shown else shown
