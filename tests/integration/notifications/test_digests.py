"""At most so many mails an hour a mailbox, then one digest; every message and its recording stay."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.database.pool import Pool
from app.notifications.model import NotificationState, RecordingState
from app.sandbox.mail import MailCatcher
from app.sandbox.switch import StandInSwitch
from app.switch.esl.event_socket import EventSocket
from tests.support.mail_process import MailProcess, row_of
from tests.support.pbx import stand_in
from tests.support.switch_rows import DOMAIN, insert, switch_row

LIMIT = 3
HOUR = 1.5  # seconds


@pytest.fixture
async def mail() -> AsyncIterator[MailCatcher]:
    catcher = MailCatcher()
    await catcher.start()
    yield catcher
    await catcher.stop()


@pytest.fixture
async def switch(database: str, tmp_path: Path) -> AsyncIterator[StandInSwitch]:
    switch = stand_in(database, tmp_path)
    (switch.directory / "101.xml").write_text('<include><user id="101"/></include>')
    await switch.start()
    yield switch
    await switch.stop()


@pytest.fixture
async def mails(database: str, pool: Pool, switch: StandInSwitch, mail: MailCatcher) -> AsyncIterator[MailProcess]:
    socket = EventSocket("127.0.0.1", switch.port, switch.password)
    socket.start()
    assert await socket.wait_connected(5)
    process = MailProcess(database, pool, switch.recordings, mail.port, socket, per_hour=LIMIT, hour=HOUR)
    await process.begin()
    yield process
    await process.close()
    await socket.close()


async def leave(mails: MailProcess, count: int, **fields: Any) -> list[tuple[Path, UUID]]:
    """So many messages for 101 that are found at once, and their notifications."""
    folder = mails.recordings / DOMAIN / "101"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        switch_row(**{"file_path": str(folder / f"msg_{uuid4()}.wav"), "cid_name": f"Caller {number}"} | fields)
        for number in range(count)
    ]
    for row in rows:
        Path(row["file_path"]).write_bytes(b"RIFFdata")
    await insert(mails.pool, *rows)
    recorded = {message.file_path: message.id for message in await mails.registry.record([row_of(row) for row in rows])}
    ids = {
        row["message_id"]: UUID(int=row["id"].int)
        for row in await mails.pool.fetch("SELECT id, message_id FROM voicemail.notification")
    }
    return [(Path(row["file_path"]), ids[recorded[row["file_path"]]]) for row in rows]


def digests(mail: MailCatcher) -> list[Any]:
    return [caught.parsed for caught in mail.messages if "more voicemail" in caught.parsed["Subject"]]


async def test_beyond_the_limit_one_digest_tells_of_all_and_nothing_of_them_is_removed(
    mails: MailProcess, mail: MailCatcher
) -> None:
    await mails.mailbox(local_after_email=False)
    left = await leave(mails, LIMIT + 5)

    await mails.work()

    assert len(mail.messages) == LIMIT + 1
    states = [(await mails.look(notification))[0] for _, notification in left]
    gone = [path for path, _ in left if not path.exists()]
    assert len(gone) == LIMIT
    assert [one.state for one in states].count(NotificationState.SENT) == LIMIT
    for (path, _), found in zip(left, states, strict=True):
        if found.state is NotificationState.SENT:
            assert (path.exists(), found.recording_state) == (False, RecordingState.DELETED)
        else:
            assert (found.state, path.exists(), found.recording_state) == (NotificationState.DIGESTED, True, RecordingState.KEPT)
            assert found.recording_detail == "no mail carried the recording"
    assert await mails.pool.fetchval("SELECT count(*) FROM voicemail_msgs") == 5
    (digest,) = digests(mail)
    assert digest["Subject"] == "5 more voicemails for mailbox 101 at lab.local"
    assert list(digest.iter_attachments()) == []
    text = digest.get_content()
    assert sum(f"Caller {number} (0891234567), 0:07" in text for number in range(LIMIT + 5)) == 5
    assert "stay in the mailbox" in text
    assert text.count("Ho Chi Minh time, UTC+07:00") == 5
    assert {found.mail_message_id for found in states if found.digest_id} == {digest["Message-ID"]}


async def test_a_removal_that_was_asked_for_a_digested_message_is_refused(mails: MailProcess, mail: MailCatcher) -> None:
    """Whoever asks: the guard at the moment of removal finds that no mail carried the recording."""
    await mails.mailbox(local_after_email=False)
    left = await leave(mails, LIMIT + 1)
    await mails.work()
    (path, notification) = next((p, n) for p, n in left if p.exists())
    found, _ = await mails.look(notification)
    async with mails.pool.acquire() as connection, connection.transaction():
        await mails.removal.ask(connection, found.message_id, "after_mail")

    await mails.pool.execute("UPDATE voicemail.removal SET next_try_at = now() WHERE state = 'asked'")
    await mails.work()

    assert path.exists()
    assert await mails.pool.fetchval("SELECT state FROM voicemail.removal WHERE message_id = $1", found.message_id) == "kept"


async def test_a_flood_costs_a_digest_an_hour(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(local_after_email=True)
    loop = asyncio.get_running_loop()
    began = loop.time()
    count = 0
    while loop.time() - began < 2.2 * HOUR:
        await leave(mails, 4)
        count += 4
        async with asyncio.timeout(10):
            for due in await mails.pool.fetch("SELECT id FROM voicemail.digest WHERE closed_at IS NULL AND due_at <= now()"):
                await mails.notices.close_digest(str(due["id"]))
        await asyncio.sleep(0.05)
    hours = int((loop.time() - began) / HOUR) + 1

    await mails.work(20.0)

    told = [int(one["Subject"].split()[0]) for one in digests(mail)]
    assert sum(told) + len(mail.messages) - len(told) == count
    assert len(told) <= hours
    assert len(mail.messages) - len(told) <= LIMIT * hours
    spans = await mails.pool.fetch("SELECT created_at FROM voicemail.notification WHERE digest_id IS NULL ORDER BY created_at")
    for first, beyond in zip(spans, spans[LIMIT:], strict=False):
        assert (beyond["created_at"] - first["created_at"]).total_seconds() >= HOUR


async def test_each_mailbox_has_a_limit_of_its_own(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(local_after_email=True)
    await mails.mailbox("102", local_after_email=True, mail_to=("other@example.com",))
    await leave(mails, LIMIT + 1)
    left = await leave(mails, LIMIT, username="102")

    await mails.work()

    assert {(await mails.look(notification))[0].state for _, notification in left} == {NotificationState.SENT}
    assert [one["To"] for one in digests(mail)] == ["tech@example.com"]
    assert digests(mail)[0]["Subject"].startswith("1 more voicemail for")


async def test_every_address_gets_the_digest_and_none_that_was_dropped(mails: MailProcess, mail: MailCatcher) -> None:
    mailbox = await mails.mailbox(local_after_email=True, mail_to=("a@example.com", "b@example.com", "c@example.com"))
    mail.refuse("b@example.com")
    left = await leave(mails, LIMIT + 1)
    await mails.pool.execute("UPDATE voicemail.mailbox SET mail_to = 'a@example.com,b@example.com' WHERE id = $1", mailbox)

    await mails.work()

    assert sorted(one["To"] for one in digests(mail)) == ["a@example.com"]
    digested = [n for _, n in left if (await mails.look(n))[0].digest_id]
    state = {
        row["address"]: row["state"]
        for row in await mails.pool.fetch(
            "SELECT address, o.state FROM voicemail.notice o JOIN voicemail.notification n USING (digest_id) WHERE n.id = $1",
            digested[0],
        )
    }
    assert state == {"a@example.com": "sent", "b@example.com": "failed"}


@pytest.mark.parametrize("change", ["enabled = false", "mail_to = ''", "id = gen_random_uuid()"])
async def test_a_mailbox_that_wants_no_mail_any_more_gets_no_digest(mails: MailProcess, mail: MailCatcher, change: str) -> None:
    mailbox = await mails.mailbox(local_after_email=True)
    await leave(mails, LIMIT + 1)
    await mails.pool.execute(f"UPDATE voicemail.mailbox SET {change} WHERE id = $1", mailbox)

    await mails.work()

    assert mail.messages == []


async def test_a_digest_of_hundreds_tells_the_oldest_and_the_number(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(local_after_email=True)
    await leave(mails, LIMIT + 150, cid_name="http://evil.example\r\nBcc: x@evil.example")

    await mails.work()

    (digest,) = digests(mail)
    text = digest.get_content()
    assert digest["Subject"].startswith("150 more voicemails")
    assert digest["Bcc"] is None
    assert text.count("\n- ") == 100
    assert "… and 50 more" in text
    assert "evil.example" not in text
    assert "http[:]//evil[.]example" in text


async def test_a_mail_server_that_is_away_gets_the_digest_later(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(local_after_email=True)
    mail.refuse("tech@example.com", "451 later")
    await leave(mails, LIMIT + 1)

    async def back_after_a_try() -> None:
        while not await mails.pool.fetchval("SELECT max(attempts) FROM voicemail.notice"):
            await asyncio.sleep(0.05)
        mail.accept("tech@example.com")

    back = asyncio.ensure_future(back_after_a_try())
    await mails.work()
    await back

    assert len(digests(mail)) == 1
    assert await mails.pool.fetchval("SELECT attempts FROM voicemail.notice") > 1
