"""Somebody who may write to the recordings folder swaps everything in it as fast as he can: nothing from outside gets out."""

import asyncio
import hashlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp

from app.database.pool import Pool
from tests.support.pbx import CHECKOUT, DOMAIN, TOKEN, Site, stand_in
from tests.support.switch_rows import insert, switch_row

SAMPLE = next((CHECKOUT / "app/sandbox/recordings").glob("*.wav")).read_bytes()[:20_000]
SECRET = b"what nobody outside may read " * 1000
SECONDS = 20.0
STOP = 5.0  # seconds from SIGTERM to the end
MESSAGES, READERS = 40, 6


class Swapper:
    """The recordings folder of one mailbox: file, link, pipe, hard link and parent folder take turns in a recording's place."""

    def __init__(self, recordings: Path, outside: Path) -> None:
        self.folder = recordings / DOMAIN / "101"
        self.folder.mkdir(parents=True)
        self.outside = outside / "101"
        self.outside.mkdir(parents=True)
        self.names: list[str] = []
        self.rounds = 0

    def add(self, name: str) -> str:
        """One more recording; its path."""
        (self.outside / name).write_bytes(SECRET)
        self.names.append(name)
        return str(self.folder / name)

    @contextmanager
    def swapping(self) -> Iterator[None]:
        """Swap for as long as the context lasts; a plain file is left at the end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._swap, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)
        assert not thread.is_alive()

    def _swap(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for name in list(self.names):
                self._put(name, lambda path: path.write_bytes(SAMPLE))
                self._put(name, lambda path, name=name: path.symlink_to(self.outside / name))  # type: ignore[misc]
                self._put(name, os.mkfifo)
                self._put(name, lambda path: path.symlink_to("/dev/zero"))
                self._put(name, lambda path: path.write_bytes(SAMPLE))
            aside = self.folder.with_name("aside")
            self.folder.rename(aside)
            self.folder.symlink_to(self.outside)
            self.folder.unlink()
            aside.rename(self.folder)
            self.rounds += 1

    def _put(self, name: str, make: Callable[[Path], object]) -> None:
        draft = self.folder / "draft"
        with suppress(FileNotFoundError):
            draft.unlink()
        make(draft)
        draft.rename(self.folder / name)


async def test_nothing_from_outside_gets_out_while_everything_is_swapped(
    database: str, pool: Pool, tmp_path: Path, unused_port: int
) -> None:
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    swapper = Swapper(site.switch.recordings, tmp_path / "outside")
    await site.switch.start()
    await site.mail.start()
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "serve", cwd=tmp_path,
        env=site.environment(http_port=unused_port) | {"PYTHONPATH": str(CHECKOUT)},
        stdout=(tmp_path / "log").open("wb"), stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    seen: Counter[int] = Counter()
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        limit = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{unused_port}", headers=headers, timeout=limit) as site.client:
            await _until_ready(site.client)
            await site.create("101", local_after_email=True)
            ids: list[str] = []
            with swapper.swapping():
                readers = [asyncio.create_task(_download(site.client, ids, seen)) for _ in range(READERS)]
                for number in range(MESSAGES):
                    row = switch_row(created_epoch=int(time.time()), file_path=swapper.add(f"msg_{number}.wav"))
                    await insert(pool, row)
                    ids.append(row["uuid"])
                    await asyncio.sleep(SECONDS / MESSAGES)
                # A thread that hung on a pipe would be missed by now: there are few of them.
                async with site.client.get("/v1/voicemail/message?extension=101") as answer:
                    assert (answer.status, (await answer.json())["total"]) == (200, MESSAGES)
                began = time.monotonic()
                service.send_signal(signal.SIGTERM)
                await asyncio.wait_for(service.wait(), 60)
                took = time.monotonic() - began
                for reader in readers:
                    reader.cancel()
                outcomes = await asyncio.gather(*readers, return_exceptions=True)
    finally:
        if service.returncode is None:
            service.kill()
            await service.wait()
        await site.mail.stop()
        await site.switch.stop()

    print("rounds:", swapper.rounds, "answers:", dict(seen), "mails:", len(site.mail.messages), f"stopped in {took:.2f} s")
    assert [error for error in outcomes if isinstance(error, AssertionError)] == []
    assert took <= STOP
    assert service.returncode == 0
    assert set(seen) <= {200, 404}
    assert seen[200] > 10
    assert seen[404] > 10
    assert site.mail.messages
    for mail in site.mail.messages:
        assert [part.get_content() for part in mail.parsed.iter_attachments()] == [SAMPLE]
    hashes = {record[0] for record in await pool.fetch("SELECT sha256 FROM voicemail.recording")}
    assert hashes <= {hashlib.sha256(SAMPLE).digest()}
    assert all((swapper.outside / name).read_bytes() == SECRET for name in swapper.names)


async def _until_ready(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):
                async with client.get("/healthz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)


async def _download(client: aiohttp.ClientSession, ids: list[str], seen: Counter[int]) -> None:
    """Download one after the other until the service is gone."""
    number = 0
    while True:
        await asyncio.sleep(0)
        if not ids:
            await asyncio.sleep(0.05)
            continue
        number += 1
        try:
            async with client.get(f"/v1/voicemail/message/{ids[number % len(ids)]}/download") as answer:
                content = await answer.read()
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)  # it ends
            continue
        seen[answer.status] += 1
        if answer.status == 200:
            assert content == SAMPLE, content[:50]
