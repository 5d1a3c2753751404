"""``voicemail sandbox --call``: a message from another terminal, only by somebody who can read the sandbox's folder."""

import asyncio
import json
from pathlib import Path

import pytest

from app.addressing import Extension
from app.errors import Invalid, VoicemailError
from app.sandbox.control import controlled, leave_message


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sandbox, under a path too long for a Unix socket."""
    data = tmp_path / ("long " * 30)
    monkeypatch.setenv("VOICEMAIL_DATA_DIR", str(data))
    (data / "sandbox").mkdir(parents=True)
    return data / "sandbox"


async def call(extension: Extension) -> str:
    """A caller whom only 101 takes."""
    if extension != "101":
        raise VoicemailError(f"the switch takes no messages for {extension}")
    return f"a caller left a message for {extension}"


async def test_a_call_is_made_by_the_sandbox_that_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with controlled(folder, call):
        assert await leave_message("101") == 0
        assert (folder / "control.json").stat().st_mode & 0o777 == 0o600

    assert capsys.readouterr().out == "a caller left a message for 101\n"
    assert not (folder / "control.json").exists()


async def test_a_mailbox_that_is_not_there_is_said(folder: Path) -> None:
    async with controlled(folder, call):
        with pytest.raises(VoicemailError, match="takes no messages for 999"):
            await leave_message("999")


@pytest.mark.parametrize("extension", ["", "../101", "101\nexit", "101;rm", "１０１", "message", "1" * 300, "1\0"])
async def test_what_is_no_extension_is_refused_before_anything_is_sent(folder: Path, extension: str) -> None:
    with pytest.raises(Invalid):
        await leave_message(extension)


async def test_without_a_sandbox_a_sentence_names_the_folder(folder: Path) -> None:
    with pytest.raises(VoicemailError, match=r"no sandbox runs in .*long .*voicemail sandbox"):
        await leave_message("101")


@pytest.mark.parametrize(
    "left", ["", "{", "[]", "null", '{"port": 1, "secret": "of a sandbox that was killed"}', '{"port": "x"}']
)
async def test_what_a_killed_sandbox_left_behind_is_as_none(folder: Path, left: str) -> None:
    (folder / "control.json").write_text(left)

    with pytest.raises(VoicemailError, match="no sandbox runs in"):
        await leave_message("101")

    async with controlled(folder, call):  # the next start takes its place
        assert await leave_message("101") == 0


@pytest.mark.parametrize(
    "line",
    [b'{"call": "101"}\n', b'{"call": "101", "secret": "wrong"}\n', b'{"call": "101", "secret": "\xc3\xbc"}\n', b"[]\n", b"\xff\n", b"x" * 100_000, b""],
    ids=["no secret", "wrong", "other letters", "list", "bytes", "endless", "nothing"],
)  # fmt: skip
async def test_nobody_calls_without_the_secret(folder: Path, line: bytes) -> None:
    asked = []

    async def note(extension: Extension) -> str:
        asked.append(extension)
        return ""

    async with controlled(folder, note):
        port = json.loads((folder / "control.json").read_text())["port"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line)
        if not line:
            writer.write_eof()
        try:
            answer = await reader.read()
        except ConnectionError:  # closed while it had more to read
            answer = b""
        writer.close()

    assert answer == b""
    assert asked == []
