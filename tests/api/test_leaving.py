"""Messages that are left over HTTP: row, event, MWI, mail and recording, as of a call."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import pytest

from app.sandbox.switch import StandInSwitch
from tests.support.pbx import DOMAIN, PATIENCE, Site
from tests.support.plain_client import PlainClient
from tests.support.tones import encoded, facts, seconds_of, tone

TONE = 1500
WAV = {"Content-Type": "audio/wav"}
ROW = "SELECT * FROM voicemail_msgs WHERE uuid = $1"


async def leave(api: Site, extension: str, data: bytes | None = None, query: str = "", **headers: str) -> tuple[int, Any, Any]:
    """Status, body and headers of the call."""
    body = tone(TONE, 2.5) if data is None else data
    async with api.client.post(f"/v1/voicemail/{extension}/message{query}", data=body, headers=headers or WAV) as answer:
        return answer.status, await answer.json(), answer.headers


async def row_of(api: Site, id_: str) -> dict[str, Any]:
    """The row of a message."""
    connection = await asyncpg.connect(api.dsn)
    (row,) = await connection.fetch(ROW, id_)
    await connection.close()
    return dict(row)


@pytest.fixture
async def mailbox(api: Site, extension: str) -> str:
    """A mailbox of the test's own, which has no folder yet."""
    await api.create(extension, mail_to=f"{extension}@example.com")
    return extension


async def test_a_left_message_is_there_when_the_answer_comes(api: Site, mailbox: str) -> None:
    status, message, headers = await leave(api, mailbox, query="?caller_id_name=Alice%20Nguy%E1%BB%85n&caller_id_number=%2B84891")

    assert status == 201
    assert headers["Location"] == f"/v1/voicemail/message/{message['id']}"
    listed = await api.get(headers["Location"])
    assert listed == message
    assert (message["caller_id_name"], message["caller_id_number"]) == ("Alice Nguyễn", "+84891")
    assert (message["extension"], message["domain"], message["duration"], message["read"]) == (mailbox, DOMAIN, 2, False)
    assert (message["recording"], message["audio"]["duration"]) == ("ready", 2.5)
    assert (await api.get(f"/v1/voicemail/message?extension={mailbox}"))["total"] == 1
    async with api.client.get(message["download_url"]) as download:
        audio = await download.read()
    assert facts(audio) == (1, 2, 8000, 2.5)
    assert seconds_of(audio, TONE) >= 2.3


async def test_its_row_and_file_are_as_the_switch_writes_them(api: Site, mailbox: str) -> None:
    left = await api.switch.leave_message(mailbox)

    _, message, _ = await leave(api, mailbox, query="?urgent=true")

    row, theirs = await row_of(api, message["id"]), await row_of(api, left.uuid)
    path = Path(row["file_path"])
    assert path.parent == left.path.parent
    assert path.name.startswith("msg_")
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o640, left.path.parent.stat().st_uid)
    assert (row["read_flags"], row["cid_name"], row["cid_number"]) == ("A_URGENT", "anonymous", "anonymous")
    own = {"uuid", "file_path", "created_epoch", "cid_name", "cid_number", "message_len", "read_flags"}
    assert {name: row[name] for name in row.keys() - own} == {name: theirs[name] for name in theirs.keys() - own}
    assert abs(row["created_epoch"] - theirs["created_epoch"]) < 60


async def test_it_is_mailed_the_phones_are_told_and_the_event_is_fired(api: Site, mailbox: str) -> None:
    name = "x %0AVM-User: 102 'q\" <b@example.com>"
    async with await PlainClient.connect(api.switch.port, api.switch.password) as listener:
        await listener.command("event plain MESSAGE_WAITING CUSTOM vm::maintenance")

        _, message, _ = await leave(api, mailbox, query=f"?caller_id_name={quote(name)}&caller_id_number=0891234567")

        event = await listener.event("leave-message", VM_User=mailbox)
        waiting = await listener.event("MESSAGE_WAITING", MWI_Message_Account=f"{mailbox}@{DOMAIN}")
    row = await row_of(api, message["id"])
    assert (event["VM-UUID"], event["VM-File-Path"], event["VM-Domain"]) == (message["id"], row["file_path"], DOMAIN)
    assert (event["VM-Message-Len"], event["VM-Folder"], event["VM-Flags"]) == ("2", "inbox", "B_NORMAL")
    assert len(event.raw("VM-User")) == 1
    assert waiting["MWI-Voice-Message"] == "1/0"
    await api.until(f"/v1/voicemail/message/{message['id']}/notification", state="sent")
    (mail,) = [mail for mail in api.mail.messages if mail.recipients == (f"{mailbox}@example.com",)]
    (attachment,) = mail.parsed.iter_attachments()
    assert attachment.get_content() == Path(row["file_path"]).read_bytes()
    assert row["cid_name"] == name


async def test_it_is_mailed_once_and_nothing_is_remembered_of_it(api: Site, mailbox: str) -> None:
    _, message, _ = await leave(api, mailbox)

    await api.until(f"/v1/voicemail/message/{message['id']}/notification", state="sent")
    connection = await asyncpg.connect(api.dsn)
    # Our own event was heard, too: what it left here is looked at in a minute, finds the row and is forgotten.
    await connection.execute("UPDATE voicemail.heard_message SET due_at = now() WHERE username = $1", mailbox)
    async with asyncio.timeout(PATIENCE):
        while await connection.fetchval("SELECT count(*) FROM voicemail.heard_message WHERE username = $1", mailbox):
            await asyncio.sleep(0.1)
    assert await connection.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username = $1", mailbox) == 1
    await connection.close()
    assert len([mail for mail in api.mail.messages if mail.recipients == (f"{mailbox}@example.com",)]) == 1


async def test_a_mailbox_that_keeps_nothing_after_the_mail_has_its_message_mailed_and_removed(api: Site, extension: str) -> None:
    await api.create(extension, mail_to=f"{extension}@example.com", local_after_email=False)

    status, message, _ = await leave(
        api, extension, encoded(tone(TONE), "MP3", "MPEG_LAYER_III"), **{"Content-Type": "audio/mpeg"}
    )

    assert status == 201
    await api.until(f"/v1/voicemail/message/{message['id']}/notification", state="sent")
    async with asyncio.timeout(PATIENCE):
        while list((api.switch.recordings / DOMAIN / extension).glob("msg_*")):
            await asyncio.sleep(0.1)


async def test_a_disabled_or_full_mailbox_takes_none(api: Site, extension: str) -> None:
    await api.create(extension, enabled=False)
    status, body, _ = await leave(api, extension)
    assert (status, body["detail"]) == (409, "this mailbox is disabled: it takes no messages")

    full = f"{extension}full"
    await api.create(full)
    assert isinstance(api.switch, StandInSwitch)
    entry = api.switch._mailboxes.user(full, DOMAIN)
    assert entry is not None
    entry.params["vm-disk-quota"] = "2"  # type: ignore[index] - as the operator's own file would have it
    assert (await leave(api, full))[0] == 201
    status, body, _ = await leave(api, full)
    assert (status, "full" in body["detail"]) == (409, True)


@pytest.mark.parametrize("name", ["caller_id_name", "caller_id_number"])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nVM-User: 102", "nul\0after", "n" * 256, "\u202egnp.exe", " a", "a\u2028b", "a\tb"],
    ids=["line", "header", "nul", "long", "bidi", "space", "separator", "tab"],
)  # fmt: skip
async def test_a_caller_that_no_row_could_hold_is_refused(api: Site, mailbox: str, name: str, text: str) -> None:
    status, body, _ = await leave(api, mailbox, query=f"?{name}={quote(text)}")

    assert (status, body["errors"][0]["field"]) == (422, name)


async def test_hostile_callers_arrive_as_they_are(api: Site, mailbox: str) -> None:
    for text in ("</text>'\"; DROP TABLE voicemail_msgs; --", "${hostname} $${domain} %s {0}", "../../etc", "🎉" * 60, "n" * 255):
        query = f"?caller_id_name={quote(text)}&caller_id_number={quote(text)}"
        status, message, _ = await leave(api, mailbox, tone(TONE, 0.3), query)

        assert status == 201
        row = await row_of(api, message["id"])
        assert (row["cid_name"], row["cid_number"], message["caller_id_name"]) == (text, text, text)


async def test_what_is_no_audio_leaves_nothing(api: Site, mailbox: str) -> None:
    for data in (b"", b"text", bytes(3000)):
        status, body, _ = await leave(api, mailbox, data)
        assert (status, body["errors"][0]["field"]) == (422, "body")
    assert (await leave(api, mailbox, **{"Content-Type": "application/json"}))[0] == 415
    async with api.client.post(f"/v1/voicemail/{mailbox}/message", data=bytes(11 << 20), headers=WAV) as answer:
        assert answer.status == 413

    assert not (api.switch.recordings / DOMAIN / mailbox).exists()
    assert (await api.get(f"/v1/voicemail/message?extension={mailbox}"))["total"] == 0


async def test_it_is_audited(api: Site, mailbox: str) -> None:
    _, message, _ = await leave(api, mailbox)

    rows = (await api.get(f"/v1/audit?extension={mailbox}&action=message.leave"))["data"]

    assert [(row["target"], row["result"]) for row in rows] == [(message["id"], "allowed")]
    assert UUID(message["id"])
