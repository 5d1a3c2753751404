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
from typing import Any

import aiohttp
import pytest

from tests.support.pbx import CHECKOUT

START = 90.0  # seconds; the first start initialises a database
STOP = 5.0


async def start(folder: Path, *arguments: str, port: int = 0, **options: Any) -> Process:
    """The sandbox as a process of its own, on a free port if none is given."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "sandbox", *arguments, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT,
        env=environment | {"VOICEMAIL_DATA_DIR": str(folder), "VOICEMAIL_HTTP_PORT": str(port)}, **options,
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


async def test_another_call_is_made_from_another_terminal(shown: Shown) -> None:
    process = await start(shown.folder / "data", "--call", "102")
    assert process.stdout is not None
    said = (await process.stdout.read()).decode()
    token = (shown.folder / "data" / "sandbox" / "token").read_text().strip()

    assert await process.wait() == 0, said
    assert said.startswith("a caller left a message for 102: ")
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.request("GET", f"{shown.url}/v1/voicemail/message/102", headers=headers) as answer:
        assert (await answer.json())["caller_id_name"] == "Bob Tran"

    nobody = await start(shown.folder / "data", "--call", "999")
    assert nobody.stdout is not None
    assert "the switch takes no messages for 999" in (await nobody.stdout.read()).decode()
    assert await nobody.wait() == 1


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


def modes(folder: Path) -> dict[str, str]:
    """The modes of everything below a folder, without those of the embedded database, which guards its own."""
    found = [path for path in folder.rglob("*") if "postgresql" not in path.parts]
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o777:o}" for path in found}


def test_what_the_sandbox_writes_is_for_its_user_only(shown: Shown) -> None:
    found = modes(shown.folder / "data" / "sandbox")

    assert {"voicemail.log", "mail", "recordings", "token"} <= set(found)
    assert any(name.endswith(".eml") for name in found)
    assert any(name.endswith(".wav") for name in found)
    # The switch's group may read what it is configured with, as long as it gets into the folder.
    assert {mode for name, mode in found.items() if not name.startswith("directory/")} == {"600", "700"}, found


async def test_a_second_sandbox_on_one_folder_is_told_in_a_sentence(shown: Shown) -> None:
    second = await start(shown.folder / "data")
    async with asyncio.timeout(START):
        said = (await second.communicate())[0].decode()

    assert second.returncode == 1
    assert said == (
        f"voicemail: a sandbox runs in {shown.folder}/data/sandbox already: stop it, or set VOICEMAIL_DATA_DIR to another folder\n"
    )


async def test_a_port_that_is_taken_is_told_before_a_database_is_made(shown: Shown, tmp_path: Path) -> None:
    port = int(shown.url.rpartition(":")[2])
    process = await start(tmp_path / "data", port=port)
    async with asyncio.timeout(START):
        said = (await process.communicate())[0].decode()

    assert process.returncode == 2
    assert f"VOICEMAIL_HTTP_PORT: 127.0.0.1 port {port} cannot be listened on: address already in use; stop the program" in said
    assert "Traceback" not in said
    assert not (tmp_path / "data/sandbox/postgresql").exists()


async def test_a_wheel_without_the_sandbox_extra_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['aiosmtpd'] = sys.modules['aiosmtpd.smtp'] = None; from app.__main__ import main; sys.exit(main(['sandbox']))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT,
        env=os.environ | {"VOICEMAIL_DATA_DIR": str(tmp_path / "data")},
    )  # fmt: skip
    async with asyncio.timeout(START):
        said = (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert said.startswith("voicemail: the sandbox needs packages that are not installed (aiosmtpd)")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
async def test_a_folder_of_another_user_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    process = await start_as_nobody("sandbox", {"VOICEMAIL_DATA_DIR": str(tmp_path / "data")})
    async with asyncio.timeout(START):
        said = (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert said == f"voicemail: {tmp_path / 'data'}: Permission denied\n"


async def start_as_nobody(command: str, environment: dict[str, str]) -> Process:
    """A command as another user, who need not be able to read the program or its Python."""
    program = f"""
import os, sys
import app.sandbox.run, app.service, uvloop
from app.cli.main import main
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(main(["{command}"]))
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT, env=kept | environment
    )


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.2])
async def test_ctrl_c_soon_after_the_start_ends_it_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    process = await start(tmp_path)
    await asyncio.sleep(seconds)

    said = await stop(process)

    assert process.returncode != 0
    assert f'File "{CHECKOUT}' not in said, said  # where Python itself is still starting, it prints a traceback of its own
    assert "rror:" not in said, said
