"""The ``voicemail`` command as a process that a test starts, without waiting for its imports each time."""

import asyncio
import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


class Program:
    """A process of the ``voicemail`` command."""

    def __init__(self, pid: int, answers: asyncio.StreamReader, connection: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection
        self._ended = asyncio.ensure_future(self._end(answers))

    @classmethod
    async def start(
        cls,
        *arguments: str,
        environment: dict[str, str],
        folder: Path,
        output: Path,
        errors: Path | None = None,
        descriptors: int = 0,
    ) -> "Program":
        """Start it; what it writes is added to these files, which are made.

        ``descriptors``: its soft and hard limit of open files, if there is to be one.
        """
        for file in {output, errors or output}:
            file.touch()
        answers, connection = await asyncio.open_unix_connection(_Server.socket())
        request = {
            "arguments": arguments, "environment": environment, "folder": str(folder), "output": str(output),
            "errors": str(errors or output), "descriptors": descriptors,
        }  # fmt: skip
        connection.write(json.dumps(request).encode() + b"\n")
        return cls(json.loads(await answers.readline())["pid"], answers, connection)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; its exit status."""
        return await asyncio.shield(self._ended)

    async def _end(self, answers: asyncio.StreamReader) -> int:
        line = await answers.readline()
        self._connection.close()
        self.returncode = int(json.loads(line)["status"]) if line else -signal.SIGKILL
        return self.returncode


class _Server:
    """The process that forks all others; one for a run of pytest, started by the first test that needs it."""

    _process: "subprocess.Popen[bytes] | None" = None
    _path = ""

    @classmethod
    def socket(cls) -> str:
        """Where it listens."""
        if cls._process is None or cls._process.poll() is not None:
            cls._path = str(Path(tempfile.mkdtemp(prefix="voicemail-programs-")) / "socket")
            cls._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.program_server", cls._path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT,
            )  # fmt: skip
            atexit.register(cls._stop, cls._process, Path(cls._path))
            assert cls._process.stdout is not None
            assert cls._process.stdout.readline() == b"ready\n"
        return cls._path

    @staticmethod
    def _stop(process: "subprocess.Popen[bytes]", path: Path) -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        path.unlink(missing_ok=True)
        path.parent.rmdir()


async def voicemail(*arguments: str, environment: dict[str, str], folder: Path) -> tuple[int, str, str]:
    """Run the ``voicemail`` command: its exit status, and what it wrote to standard output and standard error."""
    with tempfile.TemporaryDirectory(prefix="voicemail-output-") as place:
        output, errors = Path(place, "output"), Path(place, "errors")
        program = await Program.start(*arguments, environment=environment, folder=folder, output=output, errors=errors)
        try:
            status = await asyncio.wait_for(program.wait(), 60)
        finally:
            program.kill()
        return status, output.read_text(), errors.read_text()


async def voicemail_from_scratch(*arguments: str, environment: dict[str, str], folder: Path) -> tuple[int, str, str]:
    """The same, imports included, as an operator runs it: for one test a noun."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *arguments, env=environment | {"PYTHONPATH": str(CHECKOUT)}, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()
