"""Has the whole program loaded and forks a process of it for each command that a test runs.

A command is mostly its imports, and few tests are about those. What a test gets here is a process like any other, with arguments,
environment, folder, files, signals and exit status of its own; only the imports are done already.

Run as ``python -m tests.support.program_server SOCKET`` with a pipe as standard input; it ends when that is closed. A connection
to the socket is one command: a line of JSON with the fields of ``Request`` comes in, ``{"pid": 1}`` and ``{"status": 0}`` go out.
A process whose connection is closed before it ended is killed.
"""

import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

from app.__main__ import main

LOADED = ("app.doctor.run", "app.mailboxes.directory.adopt", "app.messages.orphans", "app.offline", "app.service", "uvloop")
LONGEST_REQUEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A command to run: where it writes to are the paths of files."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    output: str
    errors: str
    descriptors: int

    def carry_out(self) -> int:
        """Be that command from now on; its exit status."""
        sys.argv = ["voicemail", *self.arguments]
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()
        os.chdir(self.folder)
        for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, self.output, os.O_WRONLY), (2, self.errors, os.O_WRONLY)):
            file = os.open(path, how | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        if self.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))
        return main(self.arguments)


class Server:
    """The parent of all commands."""

    def __init__(self, path: str) -> None:
        self._running: dict[int, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._ended, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the tests
        self._selector = selectors.DefaultSelector()
        for file in (sys.stdin, self._listener, self._ended):
            self._selector.register(file, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """Fork for each command until standard input ends. Returns None then, and in each child its request."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    self._kill(*self._running)
                    return None
                if key.fileobj is self._listener:
                    if (request := self._fork()) is not None:
                        return request
                elif key.fileobj == self._ended:
                    os.read(self._ended, 4096)
                    self._collect()
                elif key.data in self._running:
                    self._selector.unregister(key.fileobj)
                    self._kill(key.data)

    def _fork(self) -> Request | None:
        connection, _ = self._listener.accept()
        with connection.makefile("rb") as lines:
            request = Request(**json.loads(lines.readline(LONGEST_REQUEST)))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.closerange(3, 4096)
            return request
        self._running[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
        _tell(connection, pid=pid)
        return None

    def _collect(self) -> None:
        while self._running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            connection = self._running.pop(ended[0])
            with suppress(KeyError):
                self._selector.unregister(connection)
            _tell(connection, status=os.waitstatus_to_exitcode(ended[1]))
            connection.close()

    def _kill(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def _tell(connection: socket.socket, **facts: int) -> None:
    with suppress(OSError):  # whoever asked is gone
        connection.sendall(json.dumps(facts).encode() + b"\n")


def run(path: str) -> int:
    """Serve, in the parent; be a command, in a child."""
    for name in LOADED:
        import_module(name)
    gc.collect()
    gc.freeze()  # so that a child's collections do not copy what it shares with this process
    server = Server(path)
    print("ready", flush=True)
    request = server.serve()
    return request.carry_out() if request else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
