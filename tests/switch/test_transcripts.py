"""What a FreeSWITCH 1.10.12 answered once is what the stand-in answers: the commands of transcripts.json, in their order."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.sandbox.switch import StandInSwitch
from tests.support.plain_client import PlainClient
from tests.support.switches_under_test import DOMAIN, MAIL_TO, PIN, write_tone

TRANSCRIPTS = json.loads((Path(__file__).parent / "transcripts.json").read_text())
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Of the switch they were taken from: where its files are, and the first message's two uuids.
SWITCH_RECORDINGS, SWITCH_PROMPT = "/var/lib/freeswitch/voicemail", "/var/lib/freeswitch/prompts/hello.wav"
SWITCH_STORAGE = "/var/lib/freeswitch/storage"
CALL, RECORDING = "2c5ebee4-0760-4496-a6b7-bfca8d64c41e", "1b3a1aaa-dc37-49a7-b048-45dfc10abec6"
CALLER = "Alice Nguyễn %0AVM-User: 102"
FIRST_EPOCH = 1795460563
# Told apart by the machine and the moment only.
STATUS = "api status"
MOMENT = {
    "Core-UUID", "FreeSWITCH-Hostname", "FreeSWITCH-Switchname", "FreeSWITCH-IPv4", "FreeSWITCH-IPv6", "Event-Date-Local",
    "Event-Date-GMT", "Event-Date-Timestamp", "Event-Calling-Line-Number", "Event-Sequence",
}  # fmt: skip


class Replay:
    """A stand-in in the state that the transcripts begin with."""

    def __init__(self, switch: StandInSwitch, folder: Path) -> None:
        self.switch, self.folder = switch, folder
        self.prompt = folder / "hello.wav"

    async def prepare(self, dsn: str) -> None:
        """Users 101 and 102, and one message of 18 seconds for 101."""
        for extension in ("101", "102"):
            (self.switch.directory / f"{extension}.xml").write_text(
                f'<user id="{extension}">\n<params>\n<param name="vm-password" value="{PIN}"/>\n'
                f'<param name="vm-mailto" value="{MAIL_TO}"/>\n</params>\n</user>\n'
            )
        write_tone(self.prompt, 4)
        await self.switch.start()
        path = self.switch.recordings / DOMAIN / "101" / f"msg_{RECORDING}.wav"
        path.parent.mkdir(parents=True)
        write_tone(path, 18)
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "INSERT INTO voicemail_msgs VALUES ($1, 0, '101', $2, $3, $4, '0891234567', 'inbox', $5, 18, '', 'B_NORMAL', '')",
            FIRST_EPOCH, DOMAIN, CALL, CALLER, str(path),
        )  # fmt: skip
        await connection.close()

    def asked(self, command: str) -> str:
        """A command as it must be here."""
        return command.replace(SWITCH_PROMPT, str(self.prompt))

    def answered(self, text: str) -> str:
        """A reply as the switch of the transcripts would have given it."""
        storage = str(self.switch.recordings / ".storage")
        return text.replace(storage, SWITCH_STORAGE).replace(str(self.switch.recordings), SWITCH_RECORDINGS)


@pytest.fixture
async def replay(database: str, tmp_path: Path) -> AsyncIterator[Replay]:
    """The stand-in, and what is different about it."""
    for name in ("recordings", "directory"):
        (tmp_path / name).mkdir()
    switch = StandInSwitch(database, tmp_path / "recordings", tmp_path / "directory", DOMAIN)
    replay = Replay(switch, tmp_path)
    await replay.prepare(database)
    try:
        yield replay
    finally:
        await switch.stop()


def comparable(body: str) -> Any:
    """A reply without what differs between two switches that are in the same state."""
    if body.startswith("{"):
        return {name: UUID.sub("UUID", value) for name, value in json.loads(body).items() if name not in MOMENT}
    body = re.sub(r"_broadcast_[^.:]+\.wav", "_broadcast.wav", body)
    return re.sub(r"\b17954\d{5}\b|\b1[78]\d{8}\b", "EPOCH", UUID.sub("UUID", body))


async def test_the_stand_in_answers_what_a_freeswitch_answered(replay: Replay) -> None:
    client = await PlainClient.connect(replay.switch.port, replay.switch.password)
    wrong: list[str] = []

    for entry in [entry for entry in TRANSCRIPTS if entry["content_type"] == "api/response" and entry["command"] != STATUS]:
        reply = replay.answered(await client.api(replay.asked(entry["command"].removeprefix("api "))))
        if comparable(reply) != comparable(entry["body"]):
            wrong.append(f"{entry['command']}\n  switch:   {entry['body']!r}\n  stand-in: {reply!r}")

    await client.close()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("entry", [entry for entry in TRANSCRIPTS if "reply_text" in entry], ids=lambda entry: entry["command"])
async def test_the_stand_in_replies_to_socket_commands_as_a_freeswitch_does(replay: Replay, entry: dict[str, str]) -> None:
    known = None if entry["command"].startswith("auth") else replay.switch.password
    client = await PlainClient.connect(replay.switch.port, known)

    reply = await client.command(entry["command"])

    assert reply["Content-Type"] == entry["content_type"]
    assert reply["Reply-Text"] == entry["reply_text"]
    await client.close()


async def test_its_status_says_that_it_is_ready(replay: Replay) -> None:
    client = await PlainClient.connect(replay.switch.port, replay.switch.password)
    (told,) = [entry["body"] for entry in TRANSCRIPTS if entry["command"] == STATUS]

    status = await client.api("status")

    assert status.startswith("UP 0 years, 0 days, 0 hours, ")
    assert [line for line in status.splitlines() if line.endswith("is ready")] == [
        line for line in told.splitlines() if line.endswith("is ready")
    ]
    await client.close()
