"""``voicemail serve`` as a process of its own, for tests that kill it."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import aiohttp

from tests.support.programs import Program

STARTS = 90.0  # seconds; starts are slow where much else runs


class ServiceProcess:
    """One run of the service. ``log`` holds what it wrote."""

    def __init__(self, process: Program, log: Path) -> None:
        self._process, self.log = process, log

    @classmethod
    async def start(
        cls, environment: dict[str, str], folder: Path, port: int, *, status: str = "ok", descriptors: int = 0
    ) -> "ServiceProcess":
        """Start it and wait until ``/readyz`` says this status (``""``: whatever it says). One that ends before fails the test.

        ``descriptors``: its soft and hard limit of open files, if there is to be one.
        """
        log = folder / "service.log"
        process = await Program.start("serve", environment=environment, folder=folder, output=log, descriptors=descriptors)
        service = cls(process, log)
        try:
            await service._until(f"http://127.0.0.1:{port}/readyz", status)
        except BaseException:
            await service.kill()
            raise
        return service

    def open_files(self) -> int:
        """How many descriptors it holds."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    async def kill(self) -> None:
        """Kill it, if it runs."""
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """Ask it to end, as an operator does; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 5)

    async def _until(self, url: str, status: str) -> None:
        found = "no answer"
        try:
            async with aiohttp.ClientSession() as client, asyncio.timeout(STARTS):
                while True:
                    assert self._process.returncode is None, f"the service ended:\n{self._written()}"
                    with contextlib.suppress(aiohttp.ClientError):
                        async with client.get(url) as answer:
                            found = await answer.text()
                            if status in ("", (await answer.json())["status"]):
                                return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the service did not become {status or 'ready'}: {found}\n{self._written()}") from None

    def _written(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]
