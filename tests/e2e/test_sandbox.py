"""``voicemail sandbox``: what somebody sees who has only just cloned the project."""

import asyncio
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

import aiohttp

START = 90.0  # seconds; the first start initialises a database
STOP = 5.0


async def start(folder: Path, *arguments: str) -> Process:
    """The sandbox as a process of its own, on a free port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "sandbox", *arguments, cwd=Path(__file__).parents[2], stdout=PIPE, stderr=STDOUT,
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


async def test_it_shows_a_call_the_mail_of_it_and_lines_that_work(tmp_path: Path) -> None:
    process = await start(tmp_path)
    try:
        shown = await read_until(process, "Ctrl-C")

        assert "mailbox 101: created" in shown
        assert "Subject: Voicemail from Alice Nguyễn" in shown
        assert "302668 bytes]" in shown
        script = tmp_path / "lines.sh"
        script.write_text("set -e\n" + shown[shown.index("TOKEN=") :].partition("\nCtrl-C")[0])
        lines = await asyncio.create_subprocess_exec("sh", "-x", str(script), cwd=tmp_path, stdout=PIPE, stderr=PIPE)
        said, traced = (part.decode() for part in await lines.communicate())
        assert lines.returncode == 0, traced
        assert said.count('"message":"successfully"') == 3, said
        assert '"status":"ok"' in said
        assert (tmp_path / "message.wav").read_bytes().startswith(b"RIFF")
    finally:
        ended = await stop(process)
    assert process.returncode == 0, ended


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
