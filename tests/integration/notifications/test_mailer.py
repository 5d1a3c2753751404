"""What becomes of a mail and of its recording, whatever the mail server, the mailbox and the phone do meanwhile."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app.database.pool import Pool
from app.mailboxes import store as mailboxes
from app.notifications.model import MailRetries, NotificationState, RecipientState, RecordingState
from app.recordings.storage import OpenRecording
from app.sandbox.mail import MailCatcher
from app.sandbox.switch import StandInSwitch
from app.sandbox.tables import TABLES
from app.switch.esl.event_socket import EventSocket
from app.switch.tables.model import readable
from tests.support.mail_process import MailProcess, row_of
from tests.support.pbx import stand_in
from tests.support.switch_rows import switch_row

SENT, FAILED, CANCELLED = NotificationState.SENT, NotificationState.FAILED, NotificationState.CANCELLED
KEPT, DELETED = RecordingState.KEPT, RecordingState.DELETED


@pytest.fixture
async def mail() -> AsyncIterator[MailCatcher]:
    catcher = MailCatcher()
    await catcher.start()
    yield catcher
    await catcher.stop()


@pytest.fixture
async def switch(database: str, tmp_path: Path) -> AsyncIterator[StandInSwitch]:
    switch = stand_in(database, tmp_path)
    for extension in ("101", "102"):
        (switch.directory / f"{extension}.xml").write_text(f'<include><user id="{extension}"/></include>')
    await switch.start()
    yield switch
    await switch.stop()


@pytest.fixture
async def mail_process(database: str, pool: Pool, switch: StandInSwitch, mail: MailCatcher) -> AsyncIterator[MailProcess]:
    socket = EventSocket("127.0.0.1", switch.port, switch.password)
    socket.start()
    assert await socket.wait_connected(5)
    mail_process = MailProcess(database, pool, switch.recordings, mail.port, socket)
    await mail_process.begin()
    yield mail_process
    await mail_process.close()
    await socket.close()


async def rows(pool: Pool) -> int:
    """How many messages the switch has."""
    return int(await pool.fetchval("SELECT count(*) FROM voicemail_msgs"))


async def change(mail_process: MailProcess, mailbox: UUID, column: str, value: Any) -> None:
    """Change a mailbox as the API would."""
    await mail_process.pool.execute(f"UPDATE voicemail.mailbox SET {column} = $2 WHERE id = $1", mailbox, value)


async def test_a_mail_that_was_accepted_is_sent_once_and_its_recording_removed(
    mail_process: MailProcess, mail: MailCatcher
) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave(b"RIFFdata")

    await mail_process.work()

    found, recipients = await mail_process.look(notification)
    assert (found.state, found.recording_state, found.attempts) == (SENT, DELETED, 1)
    assert [(recipient.state, recipient.code) for recipient in recipients] == [(RecipientState.ACCEPTED, 250)]
    assert len(mail.messages) == 1
    assert not path.exists()
    assert await rows(mail_process.pool) == 0
    for _ in range(3):
        await mail_process.mailer.deliver(str(notification))
        await mail_process.remove(notification)
    assert len(mail.messages) == 1


async def test_a_mailbox_that_keeps_its_recordings_keeps_them(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox(local_after_email=True)
    path, notification = await mail_process.leave()

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert path.exists()
    assert await rows(mail_process.pool) == 1


async def test_a_greylisting_server_is_tried_again_and_gets_the_same_message_id(
    mail_process: MailProcess, mail: MailCatcher
) -> None:
    await mail_process.mailbox(mail_to=("tech@example.com", "sales@example.com"))
    mail.refuse("sales@example.com", "451 4.7.1 greylisted")
    path, notification = await mail_process.leave()
    await mail_process.mailer.deliver(str(notification))
    found, recipients = await mail_process.look(notification)
    assert found.state is NotificationState.QUEUED
    assert {recipient.address: recipient.state for recipient in recipients} == {
        "tech@example.com": RecipientState.ACCEPTED,
        "sales@example.com": RecipientState.PENDING,
    }
    assert path.exists()

    mail.accept("sales@example.com")
    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, DELETED)
    assert [caught.recipients for caught in mail.messages] == [("tech@example.com",), ("sales@example.com",)]
    assert {caught.parsed["Message-ID"] for caught in mail.messages} == {found.mail_message_id}


async def test_a_refused_recipient_keeps_the_recording_for_ever(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox(mail_to=("tech@example.com", "gone@example.com"))
    mail.refuse("gone@example.com")
    path, notification = await mail_process.leave()

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (FAILED, KEPT)
    assert "gone@example.com: 550" in found.detail
    assert path.exists()


async def test_a_server_that_is_away_is_waited_for_and_given_up_at_last(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    await mail.stop()
    path, notification = await mail_process.leave()
    for _ in range(3):
        await mail_process.mailer.deliver(str(notification))
        await asyncio.sleep(0.25)
    found, recipients = await mail_process.look(notification)
    assert (found.state, found.attempts) == (NotificationState.QUEUED, 3)
    assert recipients[0].reply

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (FAILED, KEPT)
    assert "given up after" in found.detail
    assert path.exists()


def test_by_default_a_mail_is_tried_for_more_than_a_day_with_growing_pauses() -> None:
    retries = MailRetries()
    spans = [sum(retries.delay(number) for number in range(1, tries + 1)) for tries in range(1, 100)]

    assert retries.delay(1) <= 10
    assert [retries.delay(number + 1) >= retries.delay(number) for number in range(1, 50)].count(False) == 0
    assert not retries.over(86400, 10**6)
    assert not retries.over(10**9, 10)
    assert next(tries for tries, span in enumerate(spans, 1) if span > 86400) < 100


async def test_a_mail_is_not_due_before_its_pause_is_over(mail_process: MailProcess, database: str, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    mail.refuse("tech@example.com", "451 later")
    _, notification = await mail_process.leave()
    unhurried = MailProcess(
        database, mail_process.pool, mail_process.recordings, mail.port, mail_process.switch, retries=MailRetries()
    )

    for _ in range(10):
        await unhurried.mailer.deliver(str(notification))
    await unhurried.close()

    found, _ = await mail_process.look(notification)
    assert found.attempts == 1


async def test_two_processes_send_one_mail(mail_process: MailProcess, database: str, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    other = MailProcess(database, mail_process.pool, mail_process.recordings, mail.port, mail_process.switch)
    notifications = [(await mail_process.leave())[1] for _ in range(10)]

    await asyncio.gather(
        *(each.mailer.deliver(str(found)) for found in notifications for each in (mail_process, other, mail_process, other))
    )
    await asyncio.gather(*(each.remove(found) for found in notifications for each in (mail_process, other)))
    await mail_process.work()
    await other.close()

    assert len(mail.messages) == 10
    assert {(await mail_process.look(found))[0].recording_state for found in notifications} == {DELETED}


@pytest.mark.parametrize(("column", "value"), [("enabled", False), ("mail_to", "")])
async def test_a_mailbox_that_wants_no_mail_any_more_gets_none(
    mail_process: MailProcess, mail: MailCatcher, column: str, value: object
) -> None:
    mailbox = await mail_process.mailbox()
    path, notification = await mail_process.leave()
    await change(mail_process, mailbox, column, value)

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state, mail.messages) == (CANCELLED, KEPT, [])
    assert path.exists()


async def test_a_mailbox_that_is_deleted_or_made_anew_gets_no_mail_of_the_old_one(
    mail_process: MailProcess, mail: MailCatcher
) -> None:
    mailbox = await mail_process.mailbox()
    path, notification = await mail_process.leave()
    async with mail_process.pool.acquire() as connection:
        await mailboxes.delete(connection, mailbox)
    await mail_process.mailbox(mail_to=("somebody-else@example.com",))

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state, mail.messages) == (CANCELLED, KEPT, [])
    assert path.exists()


async def test_a_changed_address_gets_the_mail_and_the_old_one_does_not(mail_process: MailProcess, mail: MailCatcher) -> None:
    mailbox = await mail_process.mailbox()
    _, notification = await mail_process.leave()
    await change(mail_process, mailbox, "mail_to", "new@example.com")

    await mail_process.work()

    found, recipients = await mail_process.look(notification)
    assert found.state is SENT
    assert [recipient.address for recipient in recipients] == ["new@example.com"]
    assert [caught.recipients for caught in mail.messages] == [("new@example.com",)]


async def test_a_recording_is_kept_where_the_mailbox_changed_its_mind(mail_process: MailProcess, mail: MailCatcher) -> None:
    mailbox = await mail_process.mailbox()
    path, notification = await mail_process.leave()
    await mail_process.mailer.deliver(str(notification))
    await change(mail_process, mailbox, "local_after_email", True)

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert path.exists()


@pytest.mark.parametrize(
    "phone", ["UPDATE voicemail_msgs SET flags = 'save'", "UPDATE voicemail_msgs SET read_epoch = 1700000000"]
)
async def test_a_message_somebody_saved_or_heard_meanwhile_is_kept(
    mail_process: MailProcess, mail: MailCatcher, phone: str
) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave()
    await mail_process.mailer.deliver(str(notification))
    await mail_process.pool.execute(phone)

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert path.exists()
    assert await rows(mail_process.pool) == 1


@pytest.mark.parametrize("phone", ["DELETE FROM voicemail_msgs", "UPDATE voicemail_msgs SET flags = 'delete'"])
async def test_a_message_deleted_on_the_phone_before_its_mail_is_not_mailed(
    mail_process: MailProcess, mail: MailCatcher, phone: str
) -> None:
    """A phone flags a message first; when its call ends, mod_voicemail removes the file and then the row."""
    await mail_process.mailbox()
    path, notification = await mail_process.leave()
    if phone.startswith("DELETE"):
        path.unlink()
    await mail_process.pool.execute(phone)

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state, mail.messages) == (CANCELLED, KEPT, [])
    assert path.exists() is not phone.startswith("DELETE")


async def recreate_table(mail_process: MailProcess) -> None:
    """What mod_voicemail does when a probe of its columns fails, as after an upgrade: the table is new, and empty."""
    await mail_process.pool.execute("DROP TABLE voicemail_msgs")
    await mail_process.pool.execute(TABLES.read_text())


async def test_mails_that_wait_while_the_switch_recreates_its_table_go_and_their_recordings_stay(
    mail_process: MailProcess, mail: MailCatcher
) -> None:
    await mail_process.mailbox()
    waiting = [
        await mail_process.leave(b"RIFFdata", cid_name=name, cid_number=f"089{number}", message_len=18)
        for number, name in enumerate(["Alice", "Zoë \U0001f600", "a\r\nBcc: evil@x.example", "x" * 255])
    ]
    await mail_process.pool.execute("ALTER TABLE voicemail_msgs RENAME TO voicemail_msgs_old")
    for _, notification in waiting:
        await mail_process.mailer.deliver(str(notification))
        found, _ = await mail_process.look(notification)
        assert found.state is NotificationState.QUEUED, "a table that is not there says nothing of its rows"
    await mail_process.pool.execute("ALTER TABLE voicemail_msgs_old RENAME TO voicemail_msgs")
    await recreate_table(mail_process)

    await mail_process.work()

    for path, notification in waiting:
        found, _ = await mail_process.look(notification)
        assert (found.state, found.recording_state) == (SENT, KEPT)
        assert "did not list the message any more" in found.recording_detail
        assert path.exists()
    by_id = {caught.parsed["Message-ID"]: caught.parsed for caught in mail.messages}
    parsed = by_id[(await mail_process.look(waiting[0][1]))[0].mail_message_id]
    assert parsed["Subject"] == "Voicemail from Alice (0890), 0:18"
    (attachment,) = parsed.iter_attachments()
    assert attachment.get_content() == b"RIFFdata"
    body = parsed.get_body(("plain",))
    assert body is not None
    assert "does not list this message any more" in body.get_content()
    assert len(by_id) == len(waiting)
    assert all("Bcc" not in each for each in by_id.values())


async def test_any_row_can_be_recorded_with_what_its_mail_needs(mail_process: MailProcess, pool: Pool) -> None:
    odd = [("\udcff\udcfe" * 300, 2**40), ("\U0001f600" * 300, -5), ("a\r\n\x00"[:3], 0), ("'; DROP TABLE x; --", 2**31)]
    recorded = [row_of(switch_row(cid_name=name, cid_number=name, message_len=length)) for name, length in odd]

    await mail_process.registry.record(recorded)

    found = {record["uuid"]: record for record in await pool.fetch("SELECT * FROM voicemail.message")}
    for row, (name, length) in zip(recorded, odd, strict=True):
        kept = found[row.uuid]
        assert kept["caller_name"] == kept["caller_number"] == readable(name[:255])
        assert kept["duration"] == min(max(length, 0), 2**31 - 1)


async def test_a_recording_whose_folder_cannot_be_seen_is_not_taken_for_deleted(
    mail_process: MailProcess, mail: MailCatcher
) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave()
    await mail_process.pool.execute("DELETE FROM voicemail_msgs")
    path.parent.rename(path.parent.with_name("unmounted"))
    await mail_process.mailer.deliver(str(notification))
    assert (await mail_process.look(notification))[0].state is NotificationState.QUEUED

    path.parent.with_name("unmounted").rename(path.parent)
    await mail_process.work()

    assert (await mail_process.look(notification))[0].state is SENT
    assert path.exists()


async def test_a_row_whose_file_follows_it_at_once_was_deleted(mail_process: MailProcess, mail: MailCatcher) -> None:
    """Who deletes a message removes two things, one after the other."""
    await mail_process.mailbox()
    path, notification = await mail_process.leave()
    await mail_process.pool.execute("DELETE FROM voicemail_msgs")
    asyncio.get_running_loop().call_later(0.03, path.unlink)

    await mail_process.work()

    assert (await mail_process.look(notification))[0].state is CANCELLED
    assert mail.messages == []


async def test_a_recording_that_is_not_there_is_waited_for(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave(None)
    await mail_process.mailer.deliver(str(notification))
    assert mail.messages == []
    assert (await mail_process.look(notification))[0].state is NotificationState.QUEUED

    path.write_bytes(b"RIFFlate")
    await mail_process.work()

    (attachment,) = mail.messages[0].parsed.iter_attachments()
    assert attachment.get_content() == b"RIFFlate"


async def test_a_recording_that_never_comes_fails_and_deletes_nothing(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    _, notification = await mail_process.leave(None)

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state, mail.messages) == (FAILED, KEPT, [])
    assert await rows(mail_process.pool) == 1


async def test_an_empty_recording_is_told_without_an_attachment_and_kept(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave(b"")

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert list(mail.messages[0].parsed.iter_attachments()) == []
    assert path.exists()


async def test_a_recording_too_large_for_a_mail_is_told_and_kept(mail_process: MailProcess, mail: MailCatcher) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave(b"RIFF" + bytes(18_000_001))

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert list(mail.messages[0].parsed.iter_attachments()) == []
    assert path.exists()


@pytest.mark.parametrize("size", [300 * 2**30, 8 * 2**40])
async def test_a_recording_of_terabytes_is_not_read_and_its_mail_goes_without_it(
    mail_process: MailProcess, mail: MailCatcher, size: int
) -> None:
    await mail_process.mailbox()
    path, notification = await mail_process.leave()
    try:
        os.truncate(path, size)
    except OSError:
        pytest.skip("the file system has no files of this size")

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert f"too large to be mailed ({size / 1_000_000:.1f} MB)" in str(mail.messages[0].parsed.get_body(("plain",)))
    assert path.stat().st_size == size


async def test_a_mail_too_large_for_its_server_goes_without_the_recording(
    mail_process: MailProcess, mail: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sandbox.mail._LARGEST", 100_000)  # what the server announces as its SIZE
    await mail_process.mailbox()
    path, notification = await mail_process.leave(b"RIFF" + bytes(200_000))

    await mail_process.work()

    found, recipients = await mail_process.look(notification)
    assert (found.state, found.recording_state, found.attempts) == (SENT, KEPT, 1)
    assert recipients[0].state is RecipientState.ACCEPTED
    assert "takes no mail of this size" in mail.messages[0].parsed.get_body(("plain",)).get_content()
    assert path.exists()


async def test_a_recording_whose_disk_fails_is_told_without_an_attachment_and_kept(
    mail_process: MailProcess, mail: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    await mail_process.mailbox()
    path, notification = await mail_process.leave(b"RIFFdata")
    monkeypatch.setattr(OpenRecording, "read", fail)

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (SENT, KEPT)
    assert "the recording cannot be read: Input/output error" in mail.messages[0].parsed.get_body(("plain",)).get_content()
    assert path.exists()


async def test_an_outage_of_the_mail_server_is_one_line_for_all_mails_and_tries(
    mail_process: MailProcess, mail: MailCatcher
) -> None:
    notifications = []
    for extension in range(200, 230):
        await mail_process.mailbox(str(extension), local_after_email=True)
        notifications.append((await mail_process.leave(b"RIFFdata", username=str(extension)))[1])
    await mail.stop()

    with capture_logs() as lines:
        for _ in range(2):
            await asyncio.gather(*(mail_process.mailer.deliver(str(found)) for found in notifications))
            await mail_process.pool.execute("UPDATE voicemail.notification SET next_try_at = now()")
        await mail.start()
        await mail_process.work(30.0)

    assert len(mail.messages) == 30
    told = [line["event"] for line in lines if line["log_level"] in ("warning", "error") or line["event"] == "mail_server_back"]
    assert told == ["mail_server_away", "mail_server_back"]


async def test_an_outage_of_the_switch_is_one_line_for_all_messages_and_tries(
    mail_process: MailProcess, mail: MailCatcher, switch: StandInSwitch
) -> None:
    for extension in range(200, 210):
        (switch.directory / f"{extension}.xml").write_text(f'<include><user id="{extension}"/></include>')
        await mail_process.mailbox(str(extension))
        await mail_process.leave(b"RIFFdata", username=str(extension))
    await switch.stop()

    with capture_logs() as lines:
        await mail_process.work(30.0)  # until each was given up

    postponed = [line for line in lines if line["event"] == "message_waiting_postponed"]
    told = [line for line in lines if line["log_level"] in ("warning", "error") and not line["event"].startswith("switch_")]
    assert len(postponed) >= 40
    assert len(told) <= 2, told  # the connection was lost, and then refused
    assert all(line in postponed for line in told)


@pytest.mark.parametrize("where", ["/etc/passwd", "{root}/../secret.wav", "{root}/link.wav"])
async def test_no_file_outside_the_recordings_is_mailed_or_removed(
    mail_process: MailProcess, mail: MailCatcher, where: str
) -> None:
    secret = mail_process.recordings.parent / "secret.wav"
    secret.write_bytes(b"secret")
    (mail_process.recordings / "link.wav").symlink_to(secret)
    await mail_process.mailbox()
    _, notification = await mail_process.leave(None, file_path=where.replace("{root}", str(mail_process.recordings)))

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state, mail.messages) == (FAILED, KEPT, [])
    assert secret.read_bytes() == b"secret"
