"""How a message leaves the switch: exactly one row, its file only if it is nobody else's, and MWI after that."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.database.pool import Pool
from app.errors import Unavailable
from app.messages.reasons import Pace, Reason
from app.notifications.model import MailRetries, NotificationState, RecordingState
from app.sandbox.mail import MailCatcher
from app.sandbox.switch import StandInSwitch
from app.switch.commands import reload_xml
from app.switch.esl.event_socket import EventSocket
from tests.support.mail_process import MailProcess
from tests.support.pbx import stand_in
from tests.support.plain_client import PlainClient
from tests.support.switch_rows import DOMAIN, insert, switch_row

SENT, KEPT, DELETED, DELETING = NotificationState.SENT, RecordingState.KEPT, RecordingState.DELETED, RecordingState.DELETING


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
    await mail_process.mailbox()
    yield mail_process
    await mail_process.close()
    await socket.close()


async def mailed(mail_process: MailProcess, content: bytes = b"RIFFdata", **fields: Any) -> tuple[Path, UUID]:
    """A message whose mail was accepted, and whose removal is asked for."""
    path, notification = await mail_process.leave(content, **fields)
    await mail_process.mailer.deliver(str(notification))
    assert (await mail_process.look(notification))[0].state is SENT
    return path, notification


async def fate(mail_process: MailProcess, notification: UUID) -> tuple[RecordingState, str]:
    """What the API says of the recording."""
    found, _ = await mail_process.look(notification)
    return found.recording_state, found.recording_detail


async def usernames(mail_process: MailProcess) -> list[str]:
    """Whose messages the switch has."""
    return [row["username"] for row in await mail_process.pool.fetch("SELECT username FROM voicemail_msgs ORDER BY username")]


async def test_none_of_a_thousand_copies_that_arrive_at_every_moment_is_lost(
    mail_process: MailProcess, switch: StandInSwitch
) -> None:
    """The switch answers slowly, and carbon copies repeat the uuid of the message that is being removed."""
    chance = random.Random(8)
    copies: list[Path] = []
    switch.reload_takes = 2.0

    async def copy(uuid: str, extension: str) -> None:
        await asyncio.sleep(chance.uniform(0, 2.5))
        path = mail_process.recordings / DOMAIN / extension / f"msg_{uuid4()}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFFcopy")
        await insert(mail_process.pool, switch_row(username=extension, uuid=uuid, file_path=str(path)))
        copies.append(path)

    async def call() -> tuple[Path, UUID]:
        uuid = str(uuid4())
        path, notification = await mailed(mail_process, uuid=uuid)
        await asyncio.sleep(chance.uniform(0, 2.0))
        await asyncio.gather(mail_process.remove(notification), *(copy(uuid, f"2{number:02}") for number in range(10)))
        return path, notification

    reloading = asyncio.ensure_future(reload_for_ever(mail_process))
    left = await asyncio.gather(*(call() for _ in range(100)))
    reloading.cancel()
    switch.reload_takes = 0.0
    await mail_process.work(60)

    assert await mail_process.pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username <> '101'") == 1000
    assert sum(path.exists() for path in copies) == 1000
    assert {await fate(mail_process, notification) for _, notification in left} == {(DELETED, "")}
    assert not any(path.exists() for path, _ in left)
    assert await mail_process.pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username = '101'") == 0


async def reload_for_ever(mail_process: MailProcess) -> None:
    """Keep the connection to the switch busy."""
    while True:
        with suppress(Unavailable):
            await mail_process.switch.command(reload_xml(), timeout=30)


async def test_the_stand_in_s_vm_delete_waits_behind_a_reload_and_takes_what_came_meanwhile(
    mail_process: MailProcess, switch: StandInSwitch
) -> None:
    """As FreeSWITCH does: so the drill above would catch a service that sends it."""
    switch.reload_takes = 0.5
    await insert(mail_process.pool, switch_row(uuid="same"))
    async with await PlainClient.connect(switch.port, switch.password) as client:
        await client.send(f"api reloadxml\n\napi vm_delete 101@{DOMAIN} same\n\n".encode())
        await asyncio.sleep(0.1)
        await insert(mail_process.pool, switch_row(username="102", uuid="same"))
        replies = [(await client.reply()).text, (await client.reply()).text]

    assert replies == ["+OK [Success]\n", "+OK\n"]
    assert await usernames(mail_process) == []


async def test_another_mailbox_s_message_with_the_same_uuid_stays(mail_process: MailProcess) -> None:
    shared = str(uuid4())
    other = mail_process.recordings / "other.wav"
    other.write_bytes(b"RIFFother")
    await insert(mail_process.pool, switch_row(username="102", uuid=shared, file_path=str(other)))
    path, notification = await mailed(mail_process, uuid=shared)

    await mail_process.work()

    assert await fate(mail_process, notification) == (DELETED, "")
    assert not path.exists()
    assert other.exists()
    assert await usernames(mail_process) == ["102"]


async def test_a_file_that_another_message_has_too_stays(mail_process: MailProcess) -> None:
    path, notification = await mailed(mail_process)
    await insert(mail_process.pool, switch_row(username="102", file_path=str(path)))

    await mail_process.work()

    assert await fate(mail_process, notification) == (DELETED, "its file is another message's too, and stays")
    assert path.exists()
    assert await usernames(mail_process) == ["102"]


async def test_a_file_that_a_message_without_a_uuid_has_too_stays(mail_process: MailProcess) -> None:
    path, _ = await mailed(mail_process)
    await insert(mail_process.pool, switch_row(username=None, domain=None, uuid=None, file_path=str(path)))

    await mail_process.work()

    assert path.exists()
    assert await usernames(mail_process) == [None]


async def test_the_very_same_row_twice_is_one_message(mail_process: MailProcess) -> None:
    row = switch_row(file_path=str(mail_process.recordings / "twice.wav"))
    path, notification = await mailed(mail_process, **row)
    await insert(mail_process.pool, row)

    await mail_process.work()

    assert await fate(mail_process, notification) == (DELETED, "")
    assert not path.exists()
    assert await usernames(mail_process) == []


@pytest.mark.parametrize("uuid", [None, ""])
async def test_null_and_nothing_are_the_same_in_a_row(mail_process: MailProcess, uuid: str | None) -> None:
    path, notification = await mailed(mail_process, uuid=uuid)
    other = mail_process.recordings / "other.wav"
    other.write_bytes(b"RIFFother")
    await insert(mail_process.pool, switch_row(uuid=uuid, file_path=str(other)))
    await insert(mail_process.pool, switch_row(uuid="null" if uuid is None else None, file_path=None))

    await mail_process.work()

    assert await fate(mail_process, notification) == (DELETED, "")
    assert (path.exists(), other.exists()) == (False, True)
    assert await usernames(mail_process) == ["101", "101"]


@pytest.mark.parametrize("change", ["flags = 'save'", "read_epoch = 1700000000"])
async def test_a_message_that_a_phone_saves_or_hears_in_the_last_moment_stays(
    mail_process: MailProcess, pool: Pool, change: str
) -> None:
    path, notification = await mailed(mail_process)
    async with pool.acquire() as phone:
        transaction = phone.transaction()
        await transaction.start()
        await phone.execute(f"UPDATE voicemail_msgs SET {change}")

        removing = asyncio.ensure_future(mail_process.remove(notification))
        async with asyncio.timeout(10):  # until the removal waits for the phone
            while not await pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
        await transaction.commit()
        await removing

    assert await fate(mail_process, notification) == (KEPT, "somebody listened to it or saved it on the phone")
    assert path.exists()
    assert await usernames(mail_process) == ["101"]


async def test_of_the_very_same_row_twice_one_saved_keeps_both(mail_process: MailProcess) -> None:
    row = switch_row(file_path=str(mail_process.recordings / "twice.wav"))
    path, notification = await mailed(mail_process, **row)
    await insert(mail_process.pool, row | {"flags": "save"})

    await mail_process.work()

    assert await fate(mail_process, notification) == (KEPT, "somebody listened to it or saved it on the phone")
    assert path.exists()
    assert await usernames(mail_process) == ["101", "101"]


async def test_the_guard_is_read_again_at_the_moment_of_removal(mail_process: MailProcess) -> None:
    path, notification = await mailed(mail_process)
    await mail_process.pool.execute("UPDATE voicemail.notification_recipient SET state = 'refused'")

    await mail_process.work()

    assert await fate(mail_process, notification) == (KEPT, "the mail was not accepted for every recipient")
    assert path.exists()


async def test_a_reason_that_nobody_registered_removes_nothing(mail_process: MailProcess) -> None:
    path, notification = await mailed(mail_process)
    mail_process.removal._reasons.clear()

    await mail_process.remove(notification)

    state, detail = await fate(mail_process, notification)
    assert (state, "does not know the reason" in detail) == (DELETING, True)
    assert path.exists()
    assert await usernames(mail_process) == ["101"]


async def test_a_row_that_went_while_its_file_is_there_is_a_doubt(mail_process: MailProcess) -> None:
    path, notification = await mailed(mail_process)
    await mail_process.pool.execute("DELETE FROM voicemail_msgs")

    await mail_process.work()

    assert await fate(mail_process, notification) == (KEPT, "the switch no longer lists the message; its file was left alone")
    assert path.exists()


async def test_a_message_that_the_phone_deleted_with_its_file_is_gone(mail_process: MailProcess) -> None:
    path, notification = await mailed(mail_process)
    await mail_process.pool.execute("DELETE FROM voicemail_msgs")
    path.unlink()

    await mail_process.work()

    assert await fate(mail_process, notification) == (DELETED, "the switch had deleted it already")


async def test_a_file_that_cannot_be_removed_keeps_its_row(mail_process: MailProcess) -> None:
    """Row and file go both or not at all: a file that no row names would stay for ever."""
    target = mail_process.recordings / "target.wav"
    target.write_bytes(b"RIFFdata")
    path, notification = await mailed(mail_process)
    path.unlink()
    path.symlink_to(target)

    await mail_process.work()

    state, detail = await fate(mail_process, notification)
    assert (state, detail.partition(": ")[2]) == (KEPT, "the recording is not a file")
    assert (path.is_symlink(), target.exists()) == (True, True)
    assert await usernames(mail_process) == ["101"]


async def test_a_switch_that_is_away_is_told_when_it_is_back(
    mail_process: MailProcess, database: str, switch: StandInSwitch, mail: MailCatcher
) -> None:
    """Deleting does not need the switch; its phones are told later."""
    retries = MailRetries(first=0.05, longest=0.1, lease=0.2)
    mail_process = MailProcess(
        database, mail_process.pool, mail_process.recordings, mail.port, mail_process.switch, retries=retries
    )
    path, notification = await mailed(mail_process)
    await switch.stop()
    for _ in range(3):
        await mail_process.remove(notification)
        await asyncio.sleep(0.25)
    gone = (path.exists(), await usernames(mail_process), (await fate(mail_process, notification))[0])

    await switch.start()
    async with await PlainClient.connect(switch.port, switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        await mail_process.work(30)
        waiting = await phone.event("MESSAGE_WAITING", MWI_Message_Account=f"101@{DOMAIN}")
    await mail_process.close()

    assert gone == (False, [], DELETED)
    assert waiting["MWI-Messages-Waiting"] == "no"
    assert await mail_process.pool.fetchval("SELECT state FROM voicemail.removal") == "deleted"


async def test_mwi_is_sent_twice_so_that_the_second_corrects_the_first(mail_process: MailProcess, switch: StandInSwitch) -> None:
    """A message that comes between the count and the event of the first MWI would stay dark."""
    _, notification = await mailed(mail_process)
    async with await PlainClient.connect(switch.port, switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        await mail_process.remove(notification)
        await phone.event("MESSAGE_WAITING")
        await insert(mail_process.pool, switch_row())
        await mail_process.work()
        await phone.until(lambda client: len(client.events) == 2)

    assert [event["MWI-Messages-Waiting"] for event in phone.events] == ["no", "yes"]


async def test_a_message_that_has_just_come_is_left_alone_for_a_while(
    mail_process: MailProcess, database: str, mail: MailCatcher
) -> None:
    """mod_voicemail writes the row first, and makes the carbon copies from its file after that."""
    slow = MailProcess(
        database, mail_process.pool, mail_process.recordings, mail.port, mail_process.switch, pace=Pace(1.5, 4.0, 0.0)
    )
    shared = str(uuid4())
    path, notification = await mailed(slow, uuid=shared)

    await slow.remove(notification)
    at_once = path.exists()
    await asyncio.sleep(1.6)
    await insert(mail_process.pool, switch_row(username="102", uuid=shared))
    await slow.remove(notification)
    with_copies = path.exists()
    await slow.work()
    await slow.close()

    assert (at_once, with_copies, path.exists()) == (True, True, False)


async def test_another_reason_has_a_guard_of_its_own_and_may_remove_what_was_heard(mail_process: MailProcess) -> None:
    path, notification = await mailed(mail_process)
    await mail_process.pool.execute("UPDATE voicemail_msgs SET read_epoch = 1")
    message = (await mail_process.look(notification))[0].message_id

    async def nothing_against_it(_connection: object, _message: UUID) -> str:
        return ""

    mail_process.removal.register(Reason("request", nothing_against_it, only_unheard=False))
    await mail_process.work()
    kept = path.exists()
    async with mail_process.pool.acquire() as connection, connection.transaction():
        await mail_process.removal.ask(connection, message, "request")
        await mail_process.removal.ask(connection, message, "request")
    await mail_process.work()

    assert (kept, path.exists(), await usernames(mail_process)) == (True, False, [])
    states = await mail_process.pool.fetch("SELECT reason, state FROM voicemail.removal ORDER BY reason")
    assert [tuple(row) for row in states] == [("after_mail", "kept"), ("request", "deleted")]
