"""``voicemail sandbox``: what somebody sees who has only just cloned the project."""

import asyncio
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.support.pbx import CHECKOUT

START = 90.0  # seconds; the first start initialises a database
STOP = 5.0


async def start(folder: Path, *arguments: str) -> Process:
    """The sandbox as a process of its own, on a free port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "sandbox", *arguments, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT,
        env=environment | {"VOICEMAIL_DATA_DIR": str(folder), "VOICEMAIL_HTTP_PORT": "0"},
    )  # fmt: skip


async def read_until(process: Process, last: str) -> str:
    """What it prints up to the line that has this in it."""
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(START):
        while last not in text:
            line = await process.stdout.readline()
            assert line, f"it ended with:\n{text}"
            text += line.decode()
    return text


async def stop(process: Process) -> str:
    """Press Ctrl-C; what it prints after that."""
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(STOP):
        rest, _ = await process.communicate()
    return rest.decode()


@dataclass(frozen=True, slots=True)
class Shown:
    """A sandbox that runs: its folder, and what it printed."""

    folder: Path
    text: str

    @property
    def url(self) -> str:
        """Where its API is."""
        found = re.search(r"ready: (\S+)", self.text)
        assert found
        return found[1]


@pytest.fixture(scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shown]:
    folder = tmp_path_factory.mktemp("sand box")
    process = await start(folder / "data")
    try:
        yield Shown(folder, await read_until(process, "Ctrl-C"))
    finally:
        ended = await stop(process)
    assert process.returncode == 0, ended


async def run_lines(lines: str, folder: Path) -> str:
    """Run lines as somebody does who pastes them into a shell; what they wrote."""
    script = folder / "lines.sh"
    script.write_text(f"set -e\n{lines}")
    process = await asyncio.create_subprocess_exec("sh", "-x", str(script), cwd=folder, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(60):
        said, traced = (part.decode() for part in await process.communicate())
    assert process.returncode == 0, traced
    return said


async def test_it_shows_a_call_the_mail_of_it_and_lines_that_work(shown: Shown) -> None:
    assert "mailbox 101: created" in shown.text
    assert "Subject: Voicemail from Alice Nguyễn" in shown.text
    assert "302668 bytes]" in shown.text

    said = await run_lines(shown.text[shown.text.index("TOKEN=") :].partition("\nCtrl-C")[0], shown.folder)

    assert said.count('"message":"successfully"') == 3, said
    assert '"status":"ok"' in said
    assert (shown.folder / "message.wav").read_bytes().startswith(b"RIFF")


async def test_the_readmes_commands_work_as_they_stand(shown: Shown) -> None:
    readme, makefile = ((CHECKOUT / name).read_text() for name in ("README.md", "Makefile"))
    make, lines, *more = re.findall(r"^```sh\n(.*?)^```", readme, re.M | re.S)
    # All but the port, which may be taken here.
    assert more == []
    assert lines.count("http://127.0.0.1:8080/") == lines.count("http") == 8

    said = await run_lines(lines.replace("http://127.0.0.1:8080", shown.url), shown.folder)

    targets = re.findall(r"^([a-z]+):", makefile, re.M)
    assert [line.split()[:2] for line in make.splitlines()] == [["make", "run"], ["make", "lab"], ["make", "test"]]
    assert {"run", "lab", "test"} <= set(targets)
    assert said.count('"message":"successfully"') == 3, said
    assert said.count('"extension":"101"') >= 3, said  # in the two lists, and its own mailbox
    assert said.count('"caller_id_name":"Alice Nguyễn"') == 2, said  # in the list, and as the newest
    assert '"status":"ok"' in said
    assert '"problem' not in said
    assert '"title"' not in said


async def test_a_second_start_finds_the_messages_and_the_token_of_the_first(tmp_path: Path) -> None:
    first = await start(tmp_path, "--once")
    shown = await read_until(first, "stopped")
    message = re.search(r"message (\S+),", shown)
    assert message
    assert await first.wait() == 0

    second = await start(tmp_path)
    try:
        again = await read_until(second, "Ctrl-C")
        url, token = re.search(r"ready: (\S+)", again), re.search(r"TOKEN=(\S+)", again)
        assert url
        assert token
        headers = {"Authorization": f"Bearer {token[1]}"}
        async with aiohttp.request("GET", f"{url[1]}/v1/voicemail/message?extension=101", headers=headers) as answer:
            page = await answer.json()
        assert "mailbox 101: there already" in again
        assert page["total"] == 2
        assert message[1] in [found["id"] for found in page["data"]]
    finally:
        await stop(second)


async def test_ctrl_c_while_it_starts_ends_it_within_seconds(tmp_path: Path) -> None:
    process = await start(tmp_path)
    await read_until(process, "[1/4]")

    asked = time.monotonic()
    await stop(process)

    assert process.returncode != 0
    assert time.monotonic() - asked < STOP
