"""A message whose row the switch failed to insert gets its row; one that was deleted, or is none, never does."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Pool
from app.errors import SwitchUnavailable
from app.messages import heard, lost
from app.messages.hearing import Hearing
from app.messages.lost import LeftMessage, left_message
from app.messages.orphans import Orphans
from app.messages.rescue import Rescue
from app.recordings.paths import RecordingPaths
from app.switch.commands import Command
from app.switch.esl.reply import Event, Reply
from tests.support.access_tokens import OPERATOR
from tests.support.intake_under_test import IntakeUnderTest
from tests.support.switch_rows import DOMAIN, ROOT, insert, switch_row
from tests.support.switches import switch_with
from tests.support.two_domains import OTHER, host, put_mailbox

REAL = Path(__file__).parents[3] / "app/sandbox/recordings/msg_ec3e1941-405a-479e-b1e1-fb3cb69ef20c.wav"
PATHS = RecordingPaths(Path("/nowhere"), ROOT)


class Directory:
    """A switch that has the users 101 and 102, counts their messages, and notes whose phones were told."""

    def __init__(self) -> None:
        self.away = False
        self.told: list[str] = []

    async def command(self, command: Command, *, timeout: float | None = None) -> Reply:
        """Answer as the switch does."""
        if self.away:
            raise SwitchUnavailable
        if "user_exists" in command.text:
            known = command.text.split()[-2:] in (["101", DOMAIN], ["102", DOMAIN])
            return Reply("api/response", str(known).lower())
        if "vm_boxcount" in command.text:
            return Reply("api/response", "1:0:0:0")
        self.told.append(next(line for line in command.text.split("\n") if "Account" in line).split(" ")[1])
        return Reply("command/reply", "+OK")


class Site:
    """A service that hears of messages, without waiting a minute for their rows."""

    def __init__(self, pool: Pool, world: IntakeUnderTest) -> None:
        self.pool, self.world, self.switch = pool, world, Directory()
        self.hinted: list[str] = []
        self.hearing = Hearing(pool, world.paths, self.hinted.extend, patience=0.0)
        self.rescue = self.another_rescue()
        self.orphans = Orphans(pool, pool, world.storage, self.rescue)

    def another_rescue(self) -> Rescue:
        """Another process's."""
        return Rescue(self.pool, switch_with(self.switch, self.pool), self.world.storage, self.hinted.extend, settle=0.05)

    async def hear(self, **headers: str) -> str:
        """An event of the switch, and what is remembered of it; the path it named."""
        event = leave_event(**headers)
        self.hearing.hear(event)
        task = asyncio.create_task(self.hearing.run())
        try:
            async with asyncio.timeout(5):
                while self.hearing._waiting:
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.wait([task])
        return event.headers["VM-File-Path"]

    def leave_file(self, file_path: str, content: bytes | None = None) -> Path:
        """The recording at the switch's path."""
        path = self.world.paths.root / file_path.removeprefix(ROOT + "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(REAL.read_bytes() if content is None else content)
        return path

    async def again(self, rescue: Rescue | None = None) -> None:
        """Another look, as if its time had come."""
        await self.pool.execute("UPDATE voicemail.heard_message SET due_at = now()")
        await (rescue or self.rescue).step()

    async def rows(self) -> list[Any]:
        """The switch's table."""
        rows: list[Any] = await self.pool.fetch("SELECT * FROM voicemail_msgs ORDER BY ctid")
        return rows

    async def remembered(self) -> int:
        """How many messages are still looked after."""
        return int(await self.pool.fetchval("SELECT count(*) FROM voicemail.heard_message"))


def leave_event(**headers: str) -> Event:
    """The event of a message for 101, with these headers otherwise (``_`` for ``-``)."""
    usual = {
        "VM-Action": "leave-message", "VM-User": "101", "VM-Domain": DOMAIN, "VM-Caller-ID-Name": "Alice",
        "VM-Caller-ID-Number": "0891234567", "VM-File-Path": f"{ROOT}/{DOMAIN}/101/msg_{uuid4()}.wav", "VM-Flags": "B_NORMAL",
        "VM-Folder": "inbox", "VM-UUID": str(uuid4()), "VM-Message-Len": "10", "VM-Timestamp": "1795460563",
    }  # fmt: skip
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return Event("CUSTOM", "vm::maintenance", MappingProxyType(usual | changed))


@pytest.fixture
async def site(pool: Pool, tmp_path: Path) -> Site:
    await pool.execute("CREATE TABLE announced (id uuid PRIMARY KEY, file_path text)")
    world = IntakeUnderTest(pool, tmp_path)
    await world.intake.step()
    return Site(pool, world)


async def test_a_message_whose_row_never_came_gets_its_row_and_all_that_follows(site: Site) -> None:
    path = await site.hear(VM_Caller_ID_Name="Zoë " + "🎉" * 300, VM_Flags="A_URGENT")
    site.leave_file(path)

    await site.rescue.step()
    site.world.intake.hint(site.hinted)
    await site.world.intake.step()

    (row,) = await site.rows()
    assert row["cid_name"] == ("Zoë " + "🎉" * 300)[:255]
    assert (row["username"], row["domain"], row["file_path"], row["cid_number"]) == ("101", DOMAIN, path, "0891234567")
    assert (row["created_epoch"], row["read_epoch"], row["message_len"], row["in_folder"]) == (1795460563, 0, 10, "inbox")
    assert (row["flags"], row["read_flags"], row["forwarded_by"]) == ("", "A_URGENT", "")
    assert await site.world.announced() == [path]
    assert site.switch.told == [f"101@{DOMAIN}"]


async def test_one_call_in_two_domains_gets_a_row_in_each_and_each_domain_s_phones_are_told(site: Site, pool: Pool) -> None:
    await host(pool, OTHER)
    await put_mailbox(pool, "101", OTHER)
    uuid = str(uuid4())
    paths = {}
    for domain in (DOMAIN, OTHER):
        # Whatever the event says, the mailbox is the one of the path.
        path = await site.hear(VM_Domain=DOMAIN, VM_UUID=uuid, VM_File_Path=f"{ROOT}/{domain}/101/msg_{uuid4()}.wav")
        site.leave_file(path)
        paths[domain] = path

    await site.rescue.step()

    assert {row["domain"]: (row["username"], row["file_path"], row["uuid"]) for row in await site.rows()} == {
        domain: ("101", path, uuid) for domain, path in paths.items()
    }
    assert sorted(site.switch.told) == sorted(f"101@{domain}" for domain in paths)


async def test_an_orphan_is_delivered_to_the_mailbox_of_its_own_domain(
    site: Site, pool: Pool, made_old: Callable[[Path], None]
) -> None:
    await host(pool, OTHER)
    await put_mailbox(pool, "101", OTHER)
    for domain in (DOMAIN, OTHER, "unhosted.example"):
        made_old(site.leave_file(f"{ROOT}/{domain}/101/msg_1.wav"))

    found = [orphan async for orphan in site.orphans.find()]
    delivered = await site.orphans.deliver(OPERATOR, found)

    assert {str(orphan.address) for orphan in found} == {f"101@{DOMAIN}", f"101@{OTHER}", "101@unhosted.example"}
    assert sorted(delivered) == sorted([f"{DOMAIN}/101/msg_1.wav", f"{OTHER}/101/msg_1.wav"])
    assert sorted(row["domain"] for row in await site.rows()) == sorted([DOMAIN, OTHER])


async def test_an_event_is_kept_for_a_minute_before_its_row_is_missed(site: Site) -> None:
    site.hearing._patience = 60.0
    site.leave_file(await site.hear())

    await site.rescue.step()

    assert await site.rows() == []
    assert await site.remembered() == 1


async def test_a_row_that_came_is_left_as_it_is(site: Site) -> None:
    path = await site.hear()
    site.leave_file(path)
    await insert(site.pool, switch_row(file_path=path, cid_name="as the switch has it"))

    await site.rescue.step()
    await site.world.intake.step()
    await site.again()

    assert [row["cid_name"] for row in await site.rows()] == ["as the switch has it"]
    assert await site.remembered() == 0


async def test_a_message_deleted_by_phone_within_the_minute_never_comes_back(site: Site) -> None:
    seen, unseen = await site.hear(), await site.hear()
    site.leave_file(seen)  # its file stays, as where the switch may not remove it
    gone = site.leave_file(unseen)
    await insert(site.pool, switch_row(file_path=seen))
    await site.world.intake.step()
    await site.pool.execute("DELETE FROM voicemail_msgs")
    gone.unlink()

    await site.again()
    await site.again()

    assert await site.rows() == []
    assert await site.remembered() == 0


async def test_a_row_that_came_and_was_removed_while_its_file_was_looked_at_never_comes_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await site.hear()
    site.leave_file(path)
    look = site.rescue._look

    async def look_for_long(file_paths: Sequence[str]) -> list[Any]:
        found = await look(file_paths)
        await insert(site.pool, switch_row(file_path=path))
        await site.world.intake.step()
        await site.pool.execute("DELETE FROM voicemail_msgs")
        return found

    monkeypatch.setattr(site.rescue, "_look", look_for_long)
    await site.rescue.step()

    assert await site.rows() == []
    await site.again()
    assert await site.rows() == []
    assert await site.remembered() == 0


@pytest.mark.parametrize("state", ["deleting", "row_gone", "file_gone", "told", "deleted"])
async def test_a_recording_whose_row_this_service_removed_is_no_orphan_and_gets_no_row(
    site: Site, made_old: Callable[[Path], None], state: str
) -> None:
    path = await site.hear()
    made_old(site.leave_file(path))
    await insert(site.pool, switch_row(file_path=path))
    await site.world.intake.step()
    await site.pool.execute("DELETE FROM voicemail_msgs")
    (orphan,) = [found async for found in site.orphans.find()]
    await site.pool.execute(
        "INSERT INTO voicemail.removal (message_id, reason, state) SELECT id, 'after_mail', $1 FROM voicemail.message", state
    )

    assert [found async for found in site.orphans.find()] == []
    assert await site.orphans.deliver(OPERATOR, [orphan]) == []
    assert await site.rows() == []


async def test_a_recording_that_two_messages_had_is_an_orphan_although_one_of_them_was_removed(
    site: Site, made_old: Callable[[Path], None]
) -> None:
    path = await site.hear()
    made_old(site.leave_file(path))
    await insert(site.pool, switch_row(file_path=path), switch_row(file_path=path, username="102"))
    await site.world.intake.step()
    await site.pool.execute("DELETE FROM voicemail_msgs")
    await site.pool.execute(
        "INSERT INTO voicemail.removal (message_id, reason, state) "
        "SELECT id, 'after_mail', 'deleted' FROM voicemail.message WHERE username = '101'"
    )

    assert [found.file_path async for found in site.orphans.find()] == [path]


async def test_a_disk_that_is_not_mounted_is_waited_for(site: Site) -> None:
    path = await site.hear()

    await site.again()
    assert await site.remembered() == 1
    site.leave_file(path)
    await site.again()

    assert len(await site.rows()) == 1


@pytest.mark.parametrize("content", [b"", b"not audio at all", REAL.read_bytes()[:44], REAL.read_bytes()[:11]])
async def test_a_file_without_audio_gets_no_row(site: Site, content: bytes) -> None:
    site.leave_file(await site.hear(), content)

    await site.again()

    assert await site.rows() == []
    assert await site.remembered() == 1


async def test_a_file_that_still_grows_gets_its_row_when_it_is_complete(site: Site) -> None:
    path = site.leave_file(await site.hear())

    async def talk() -> None:
        with path.open("ab") as file:
            for _ in range(100):
                file.write(bytes(1600))
                file.flush()
                await asyncio.sleep(0.005)

    talking = asyncio.create_task(talk())
    await site.again()
    rows_while_talking = await site.rows()
    await talking
    await site.again()

    assert rows_while_talking == []
    assert len(await site.rows()) == 1


async def test_a_forged_event_moves_no_message_to_another_mailbox(site: Site) -> None:
    path = await site.hear(VM_User="102", VM_Domain="other.example")
    site.leave_file(path)

    await site.again()

    assert [(row["username"], row["domain"]) for row in await site.rows()] == [("101", DOMAIN)]


async def test_a_mailbox_that_nobody_knows_gets_no_row(site: Site) -> None:
    site.leave_file(await site.hear(VM_File_Path=f"{ROOT}/{DOMAIN}/999/msg_1.wav", VM_User="999"))

    await site.again()

    assert await site.rows() == []


async def test_a_switch_that_is_away_is_asked_and_told_when_it_is_back(site: Site) -> None:
    site.leave_file(await site.hear())
    site.switch.away = True
    await site.again()
    assert await site.rows() == []

    site.switch.away = False
    await site.again()
    assert len(await site.rows()) == 1


async def test_phones_that_could_not_be_told_are_told_later_and_once(site: Site) -> None:
    path = await site.hear()
    site.leave_file(path)
    site.switch.away = True
    await site.pool.execute(
        "INSERT INTO voicemail.mailbox (domain, extension, pin_encrypted, enabled) VALUES ($1, '101', '', true)", DOMAIN
    )
    await site.again()
    assert (len(await site.rows()), site.switch.told) == (1, [])

    site.switch.away = False
    for _ in range(3):
        await site.again()

    assert site.switch.told == [f"101@{DOMAIN}"]


async def test_killed_between_the_note_and_the_row_the_next_process_inserts_it_once(site: Site) -> None:
    path = await site.hear()
    site.leave_file(path)
    async with site.pool.acquire() as connection:
        await heard.inserting(connection, path)

    for _ in range(3):
        await site.again(site.another_rescue())

    assert len(await site.rows()) == 1


async def test_many_processes_at_once_insert_one_row(site: Site) -> None:
    paths = [await site.hear() for _ in range(5)]
    for path in paths:
        site.leave_file(path)

    await asyncio.gather(*(site.another_rescue().step() for _ in range(4)))

    assert sorted(row["file_path"] for row in await site.rows()) == sorted(paths)


async def test_a_row_of_the_switch_that_comes_after_ours_is_no_second_message(site: Site) -> None:
    uuid = str(uuid4())
    path = await site.hear(VM_UUID=uuid)
    site.leave_file(path)
    await site.again()
    site.world.intake.hint([path])
    await site.world.intake.step()
    await insert(site.pool, switch_row(file_path=path, uuid=uuid))

    await site.world.intake.step()
    await site.again()

    assert len(await site.rows()) == 1
    assert await site.world.announced() == [path]


async def test_a_table_that_is_away_is_waited_for(site: Site) -> None:
    site.leave_file(await site.hear())
    await site.pool.execute("ALTER TABLE voicemail_msgs RENAME TO away")
    with pytest.raises(Exception, match="voicemail_msgs"):
        await site.rescue.step()
    await site.pool.execute("ALTER TABLE away RENAME TO voicemail_msgs")

    await site.again()

    assert len(await site.rows()) == 1


async def test_a_database_of_another_encoding_gets_the_letters_it_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    left = left_message(leave_event(VM_Caller_ID_Name="Zoë"), site.world.paths)
    assert left is not None
    monkeypatch.setattr(lost, "INSERT", lost.INSERT.replace("$5::text,", "convert_from(convert_to($5::text, 'KOI8R'), 'KOI8R'),"))
    async with site.pool.acquire() as connection:
        with pytest.raises(Exception, match="UntranslatableCharacterError"):
            await lost._insert(connection, left, left.caller_name, left.caller_number)
        assert await lost.insert(connection, left)

    assert [row["cid_name"] for row in await site.rows()] == ["Zo?"]


HOSTILE_PATHS = [
    "", "/", "/etc/passwd", f"{ROOT}/../../etc/{DOMAIN}/101/msg_1.wav", f"{ROOT}/{DOMAIN}/101/../102/msg_1.wav",
    f"{ROOT}/{DOMAIN}/101/greeting_1.wav", f"{ROOT}/{DOMAIN}/101/msg_1.txt", f"{ROOT}/{DOMAIN}/101/msg_1\n.wav",
    f"{ROOT}/{DOMAIN}/101/msg_\0.wav", f"{ROOT}/{DOMAIN}/1 01/msg_1.wav", f"{ROOT}/{DOMAIN}/'; DROP TABLE x/msg_1.wav",
    f"{ROOT}/a b/101/msg_1.wav", f"{ROOT}/{DOMAIN}/101/msg_{'x' * 300}.wav", f"{ROOT}/{DOMAIN}/message/msg_1.wav",
    f"{DOMAIN}/101/msg_1.wav", f"{ROOT}/{DOMAIN}/101/msg_\ud800.wav",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=range(len(HOSTILE_PATHS)))
def test_a_path_that_is_no_recording_of_a_mailbox_is_not_remembered(path: str) -> None:
    assert left_message(leave_event(VM_File_Path=path), PATHS) is None


@pytest.mark.parametrize("uuid", ["", "x" * 256, "a b", "a\nb", "a'b", "🎉"])
def test_a_uuid_that_no_call_has_is_not_remembered(uuid: str) -> None:
    assert left_message(leave_event(VM_UUID=uuid), PATHS) is None


def test_other_events_are_not_remembered() -> None:
    assert left_message(leave_event(VM_Action="mwi-update"), PATHS) is None
    assert left_message(Event("MESSAGE_WAITING", "", MappingProxyType({})), PATHS) is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a\r\nBcc: b\0c", "a Bcc: b c"), ("n" * 1000, "n" * 255), ("\ufffd\ufffd", "\ufffd\ufffd"), ("\ud800x", "\ufffdx"),
        ("\u202egnp.exe", "gnp.exe"), ("", ""), ("a\u200db", "a\u200db"),
    ],
)  # fmt: skip
def test_a_callers_text_is_cleaned_and_cut(sent: str, kept: str) -> None:
    left = left_message(leave_event(VM_Caller_ID_Name=sent, VM_Caller_ID_Number=sent), PATHS)

    assert left is not None
    assert (left.caller_name, left.caller_number) == (kept, kept)


@pytest.mark.parametrize("number", ["", "-1", "9" * 30, "1e9", "🎉", "٣"])
def test_numbers_of_an_event_fit_their_columns(number: str) -> None:
    left = left_message(leave_event(VM_Timestamp=number, VM_Message_Len=number), PATHS)

    assert left is not None
    assert 0 <= left.created_epoch < 2**31
    assert 0 <= left.duration <= 86400


def test_the_mailbox_is_the_one_whose_folder_it_is() -> None:
    shared = lost.mailbox_of(f"{ROOT}/{DOMAIN}/voicemail/101/msg_1.wav", PATHS)
    own = lost.mailbox_of(f"{ROOT}//{DOMAIN}/*101/msg_1_broadcast_a b.WAV", PATHS)

    named_alike = lost.mailbox_of(f"{ROOT}/voicemail/101/msg_1.wav", PATHS)
    assert named_alike == MailboxAddress(Extension("101"), Domain("voicemail"))
    assert shared == MailboxAddress(Extension("101"), Domain(DOMAIN))
    assert own == MailboxAddress(Extension("*101"), Domain(DOMAIN))


@pytest.fixture
def made_old() -> Callable[[Path], None]:
    import os

    return lambda path: os.utime(path, (time.time() - 3600,) * 2)


async def test_recordings_without_a_row_are_found_told_once_and_delivered(site: Site, made_old: Callable[[Path], None]) -> None:
    with_row, without, young, lost_later = (f"{ROOT}/{DOMAIN}/101/msg_{uuid4()}.wav" for _ in range(4))
    for path in (with_row, without, lost_later, f"{ROOT}/{DOMAIN}/101/greeting_1.wav", f"{ROOT}/stray/msg_1.wav"):
        made_old(site.leave_file(path))
    made_old(site.leave_file(f"{ROOT}/{DOMAIN}/101/msg_empty.wav", b""))
    site.leave_file(young)
    uuid = str(uuid4())
    await insert(site.pool, switch_row(file_path=with_row), switch_row(file_path=lost_later, uuid=uuid, created_epoch=77))
    site.world.intake.wake(full=True)
    await site.world.intake.step()
    await site.pool.execute("DELETE FROM voicemail_msgs WHERE uuid = $1", uuid)

    assert await site.orphans.look() == site.orphans.count == 3
    found = [orphan async for orphan in site.orphans.find()]
    delivered = await site.orphans.deliver(OPERATOR, [orphan for orphan in found if orphan.address])

    assert {orphan.file_path for orphan in found} == {without, lost_later, f"{ROOT}/stray/msg_1.wav"}
    assert len(delivered) == 2
    audited = await site.pool.fetch("SELECT name, extension, target FROM voicemail.audit WHERE action = 'message.deliver'")
    assert {tuple(row) for row in audited} == {("operator", "101", path) for path in delivered}
    rows = {row["file_path"]: row for row in await site.rows()}
    assert (rows[lost_later]["uuid"], rows[lost_later]["created_epoch"]) == (uuid, 77)
    assert rows[without]["cid_name"] == "anonymous"
    announced_before = await site.world.announced()
    site.world.intake.hint(delivered_paths(found))
    await site.world.intake.step()
    assert set(await site.world.announced()) - set(announced_before) == {without}
    assert await site.orphans.look() == 1
    assert await site.orphans.deliver(OPERATOR, found) == []


def delivered_paths(found: Sequence[Any]) -> list[str]:
    """The switch's names of orphans."""
    return [orphan.file_path for orphan in found]


def test_the_statement_and_the_value_have_the_same_columns() -> None:
    assert ", ".join(LeftMessage.__slots__) == heard._COLUMNS
