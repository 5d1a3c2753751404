"""The lab on this machine, `make lab`, and the demonstration that it shares with docker-compose.yml."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.errors import VoicemailError
from app.lab.demo import CALLER_NAME, CALLER_NUMBER, Lab, demonstrate
from app.lab.freeswitch import find_freeswitch
from app.lab.mails import Mailpit
from tests.lab.test_starts import FREESWITCH
from tests.support.pbx import CHECKOUT, TOKEN, Site

START = 120.0  # seconds; the first start initialises a database
STOP = 30.0


async def start(folder: Path, *arguments: str, **environment: str) -> Process:
    """The lab as a process of its own, on a free port."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.lab", *arguments, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT,
        env=clean | {"VOICEMAIL_DATA_DIR": str(folder), "VOICEMAIL_HTTP_PORT": "0"} | environment,
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


async def test_without_a_freeswitch_there_is_a_sentence(tmp_path: Path) -> None:
    process = await start(tmp_path, FREESWITCH_BIN="", PATH=str(tmp_path))

    said, _ = await process.communicate()

    assert process.returncode == 1
    assert said.decode().startswith("lab: there is no FreeSWITCH here: say where it is with FREESWITCH_BIN=")
    assert said.count(b"\n") == 1


def test_a_named_freeswitch_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREESWITCH_BIN", "/nowhere/freeswitch")

    with pytest.raises(VoicemailError, match="FREESWITCH_BIN=/nowhere/freeswitch is no program"):
        find_freeswitch()


@pytest.mark.real_switch
@pytest.mark.skipif(not FREESWITCH, reason="no FreeSWITCH here: FREESWITCH_BIN is not set and none is on PATH")
async def test_make_lab_shows_a_call_and_its_mail_and_the_next_start_finds_them(tmp_path: Path) -> None:
    recipe = re.search(r"^lab:.*\n\t@exec (.*)$", (CHECKOUT / "Makefile").read_text(), re.M)
    assert recipe
    assert recipe[1].endswith("python -m app.lab")
    first = await start(tmp_path)
    try:
        shown = await read_until(first, "Ctrl-C")
        second_lab = await start(tmp_path, "--once")
        refused, _ = await second_lab.communicate()
        urls = dict(re.findall(r"^  (the [A-Za-z, ]+?)  +(\S+)$", shown, re.M))
        token = re.search(r"TOKEN=(\S+)", shown)
        assert token
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token[1]}"}) as client:
            answers = {name: await client.get(url) for name, url in urls.items() if url.startswith("http")}
            message = await answers["the message"].json()
    finally:
        first.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP):
            rest, _ = await first.communicate()

    assert (first.returncode, rest.decode().splitlines()[-1]) == (0, "stopped")
    assert "call     Alice Nguyễn calls 101" in shown
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(
        ("the API, described", "the mailbox", "the message"), 200
    )
    assert message["caller_id_name"] == CALLER_NAME
    assert message["duration"] >= 4
    mail = Path(unquote(urlsplit(urls["the mail"]).path))
    assert b"To: tech@example.com" in mail.read_bytes()
    assert mail.stat().st_mode & 0o077 == 0
    assert second_lab.returncode == 1
    assert b"a lab runs in" in refused
    assert not [pid for pid in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path / "lab/switch") in read(pid)]

    again = await start(tmp_path, "--once")
    said, _ = await again.communicate()

    assert again.returncode == 0, said.decode()
    assert "there already" in said.decode()
    assert "calls 101" not in said.decode()
    assert urls["the mail"] in said.decode()


async def test_the_demonstration_calls_once_and_again_only_if_the_mail_is_gone(
    stand_in_site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The call is the stand-in's; the one by the Event Socket needs a FreeSWITCH."""
    site = stand_in_site
    calls = []

    async def call(_: Lab) -> None:
        calls.append(await site.switch.leave_message("101", caller_name=CALLER_NAME, caller_number=CALLER_NUMBER))

    class Caught:
        async def find(self, message_id: str) -> str | None:
            found = [mail for mail in site.mail.messages if mail.parsed["Message-ID"] == message_id]
            return f"http://mails.example/{len(found)}" if found else None

    monkeypatch.setattr("app.lab.demo._call", call)
    url = str(site.client._base_url)
    lab = Lab(url, "http://public.example", TOKEN, "127.0.0.1", 1, "")

    said = []
    for clear in (False, False, True):
        if clear:  # as mailpit's mails after `docker compose down`
            site.mail.messages.clear()
        await demonstrate(lab, Caught())
        said.append((len(calls), capsys.readouterr().out))

    assert [number for number, _ in said] == [1, 1, 2]
    assert "made, and the switch has it" in said[0][1]
    assert f"from {CALLER_NAME} <{CALLER_NUMBER}>, mailed" in said[0][1]
    for number, text in said[1:]:
        assert "101, PIN 493817, mail to tech@example.com: there already" in text
        assert f"http://public.example/v1/voicemail/message/{calls[number - 1].uuid}" in text
        assert "http://mails.example/1" in text
    assert TOKEN not in "".join(text for _, text in said)


def read(path: Path) -> str:
    """A file of /proc, whose process may have ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.fixture
async def mailpit() -> AsyncIterator[TestServer]:
    """A server that lists mails as mailpit does."""

    async def messages(_: web.Request) -> web.Response:
        mails = [{"ID": "other", "MessageID": "1@a"}, {"ID": "wanted", "MessageID": "2@a", "Subject": "Voicemail"}]
        return web.Response(text=json.dumps({"total": 2, "messages": mails}), content_type="application/json")

    application = web.Application()
    application.router.add_get("/api/v1/messages", messages)
    async with TestServer(application) as server:
        yield server


async def test_a_mail_is_found_in_mailpit_by_its_message_id(mailpit: TestServer) -> None:
    async with aiohttp.ClientSession(str(mailpit.make_url("/"))) as client:
        mails = Mailpit(client, "http://127.0.0.1:8025/")

        assert await mails.find("<2@a>") == "http://127.0.0.1:8025/view/wanted"
        assert await mails.find("<3@a>") is None


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [(401, "no such token", "POST /v1/voicemail was answered 401: no such token"), (503, "{}", "did not come within")],
)
async def test_an_api_that_refuses_ends_the_demonstration_with_a_sentence(
    status: int, text: str, told: str, mailpit: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lab.demo._PATIENCE", 1.0)

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    application = web.Application()
    application.router.add_post("/v1/voicemail", refuse)
    async with TestServer(application) as api, aiohttp.ClientSession(str(mailpit.make_url("/"))) as client:
        url = str(api.make_url("/"))
        with pytest.raises(VoicemailError, match=told):
            await demonstrate(Lab(url, url, "t" * 16, "127.0.0.1", 1, "p"), Mailpit(client, url))


async def test_the_container_s_demonstration_names_a_variable_that_is_not_set(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.lab.demo", cwd=CHECKOUT, env={"PATH": str(tmp_path)}, stdout=PIPE, stderr=STDOUT
    )

    said, _ = await process.communicate()

    assert (process.returncode, said) == (1, b"demo: LAB_API_URL is not set\n")
