"""Marks, the trash and the way back, over HTTP: one row is changed and nothing else."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.database.pool import Pool, open_pool
from app.recordings.trash import FOLDER
from tests.support.pbx import DOMAIN, Site
from tests.support.plain_client import PlainClient
from tests.support.switch_rows import insert, switch_row

SAMPLE = next((Path(__file__).parents[2] / "app/sandbox/recordings").glob("*.wav"))
DONE = {"message": "successfully"}

Leave = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture(scope="module")
async def pool(api: Site) -> AsyncIterator[Pool]:
    pool = await open_pool(api.dsn, application_name="test")
    yield pool
    pool.terminate()


@pytest.fixture
async def leave(api: Site, extension: str, pool: Pool) -> AsyncIterator[Leave]:
    """Leaves an old message for the test's extension, with these columns; gives the row."""

    async def leave(content: bytes | None = SAMPLE.read_bytes(), **fields: Any) -> dict[str, Any]:
        username = fields.get("username", extension)
        path = api.switch.recordings / DOMAIN / username / f"msg_{uuid4()}.wav"
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))  # nobody writes to it any more
        row = switch_row(**{"username": username, "file_path": str(path), "created_epoch": 1_700_000_000} | fields)
        await insert(pool, row)
        return row

    yield leave
    await pool.execute("DELETE FROM voicemail_msgs WHERE username = $1 OR username LIKE $1 || 'b'", extension)


async def rows(pool: Pool, extension: str) -> list[dict[str, Any]]:
    """What the switch has for an extension."""
    return [
        dict(row) for row in await pool.fetch("SELECT * FROM voicemail_msgs WHERE username = $1 ORDER BY file_path", extension)
    ]


async def call(api: Site, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """Status and body of a call below /v1/voicemail/message."""
    async with api.client.request(method, f"/v1/voicemail/message{path}", json=body) as answer:
        return answer.status, await answer.json()


async def trash(api: Site, extension: str) -> list[dict[str, Any]]:
    """The trash of a mailbox."""
    found: list[dict[str, Any]] = (await api.get(f"/v1/voicemail/message?trash=true&extension={extension}"))["data"]
    return found


def aside(api: Site) -> list[Path]:
    """The recordings in the trash."""
    folder = api.switch.recordings / FOLDER
    return sorted(folder.iterdir()) if folder.exists() else []


async def waiting(phone: PlainClient, extension: str, number: int = 1) -> list[str]:
    """The counts of the first MWI events of a mailbox, once there are so many and no more come for a moment."""

    def counts() -> list[str]:
        return [
            event["MWI-Voice-Message"]
            for event in phone.events
            if event.name == "MESSAGE_WAITING" and event.headers.get("MWI-Message-Account") == f"{extension}@{DOMAIN}"
        ]

    await phone.until(lambda _: len(counts()) >= number)
    await asyncio.sleep(0.3)
    return counts()


async def test_a_message_shows_its_state(api: Site, extension: str, leave: Leave) -> None:
    row = await leave(read_epoch=1_700_000_100, flags="save", read_flags="A_URGENT", forwarded_by="200")

    one = await api.until(f"/v1/voicemail/message/{row['uuid']}", recording="ready", size=SAMPLE.stat().st_size)
    (listed,) = (await api.get(f"/v1/voicemail/message?extension={extension}"))["data"]

    assert list(listed)[7:] == [
        "read", "domain", "read_at", "urgent", "saved", "forwarded_by", "size", "format", "recording", "mail"
    ]  # fmt: skip
    assert {name: value for name, value in one.items() if name != "audio"} == listed
    assert one["audio"]["size"] == one["size"]
    assert (one["read"], one["read_at"], one["urgent"], one["saved"]) == (True, "2023-11-15T05:15:00+07:00", True, True)
    assert (one["forwarded_by"], one["format"], one["mail"]) == ("200", "wav", None)


@pytest.mark.parametrize(
    ("content", "state"),
    [(b"", "damaged"), (b"not audio at all", "damaged"), (SAMPLE.read_bytes()[:44], "damaged"), (None, "missing")],
)
async def test_a_recording_that_cannot_be_heard_is_told(
    api: Site, extension: str, leave: Leave, content: bytes | None, state: str
) -> None:
    row = await leave(content)

    await api.until(f"/v1/voicemail/message/{row['uuid']}", recording=state)
    (listed,) = (await api.get(f"/v1/voicemail/message?extension={extension}"))["data"]

    assert listed["recording"] == state


async def test_a_recording_that_was_not_read_yet_is_growing(api: Site, extension: str, leave: Leave) -> None:
    row = await leave(read_epoch=0)

    first = await api.get(f"/v1/voicemail/message?extension={extension}")

    assert first["data"][0]["recording"] in ("growing", "ready")
    assert (await api.until(f"/v1/voicemail/message/{row['uuid']}", recording="ready"))["read_at"] is None


async def test_a_message_with_a_mail_shows_its_state(api: Site, extension: str) -> None:
    await api.create(extension)
    left = await api.switch.leave_message(extension)

    await api.until(f"/v1/voicemail/message/{left.uuid}", mail="sent", read=False, urgent=False, saved=False)


async def test_marks_are_set_on_this_row_alone_and_the_phones_are_told(
    api: Site, extension: str, leave: Leave, pool: Pool
) -> None:
    shared = str(uuid4())
    await leave(uuid=shared, created_epoch=1_600_000_000)
    twin, other = await leave(uuid=shared), await leave(uuid=shared, username=f"{extension}b")
    found = (await api.get(f"/v1/voicemail/message?extension={extension}"))["data"]
    id_ = found[0]["id"]
    assert id_ != shared

    async with await PlainClient.connect(api.switch.port, api.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        assert await call(api, "PATCH", f"/{id_}", {"read": True, "saved": True}) == (200, DONE)
        told = await waiting(phone, extension)

    after = {row["file_path"]: row for row in await rows(pool, extension)}
    changed = after.pop(twin["file_path"])
    assert changed["read_epoch"] > 1_700_000_000
    assert changed == twin | {"read_epoch": changed["read_epoch"], "flags": "save"}
    assert [(row["read_epoch"], row["flags"]) for row in after.values()] == [(0, "")]
    assert await rows(pool, f"{extension}b") == [other]
    assert told == ["1/1"]

    assert await call(api, "PATCH", f"/{id_}", {"read": False}) == (200, DONE)
    assert (await api.get(f"/v1/voicemail/message/{id_}"))["saved"] is True
    assert await call(api, "PATCH", f"/{id_}", {"saved": False}) == (200, DONE)
    assert {row["file_path"]: row for row in await rows(pool, extension)}[twin["file_path"]] == twin


async def test_reading_again_keeps_the_time_of_the_first(api: Site, leave: Leave, extension: str, pool: Pool) -> None:
    row = await leave(read_epoch=1_700_000_100)

    assert await call(api, "PATCH", f"/{row['uuid']}", {"read": True}) == (200, DONE)

    assert await rows(pool, extension) == [row]


@pytest.mark.parametrize("body", [{"read": 1}, {"read": "true"}, {"saved": "yes"}, {"flags": "delete"}, {"id": "x"}])
async def test_other_bodies_change_nothing(api: Site, leave: Leave, extension: str, pool: Pool, body: dict[str, Any]) -> None:
    row = await leave()

    status, _ = await call(api, "PATCH", f"/{row['uuid']}", body)

    assert status == 422
    assert await rows(pool, extension) == [row]


async def test_an_extension_names_no_message_that_could_be_changed(api: Site, leave: Leave, extension: str, pool: Pool) -> None:
    row = await leave()

    for method, path, body in (("PATCH", "", {"read": True}), ("DELETE", "", None), ("POST", "/restore", None)):
        assert (await call(api, method, f"/{extension}{path}", body))[0] == 404

    assert await rows(pool, extension) == [row]


async def test_a_message_that_a_phone_deletes_is_not_found(api: Site, leave: Leave, extension: str, pool: Pool) -> None:
    row = await leave(flags="delete")
    await api.get(f"/v1/voicemail/message?extension={extension}")

    assert (await call(api, "PATCH", f"/{row['uuid']}", {"saved": True}))[0] == 404
    assert (await call(api, "DELETE", f"/{row['uuid']}"))[0] == 404

    assert await rows(pool, extension) == [row]


async def test_a_deleted_message_is_in_the_trash_and_comes_back_as_it_was(
    api: Site, extension: str, leave: Leave, pool: Pool
) -> None:
    shared = str(uuid4())
    row = await leave(uuid=shared, read_epoch=1_700_000_100, cid_name="Zoë 🎈", read_flags="A_URGENT", forwarded_by=None)
    other = await leave(uuid=shared, username=f"{extension}b")
    before = await api.until(f"/v1/voicemail/message/{shared}", recording="ready", size=SAMPLE.stat().st_size)

    async with await PlainClient.connect(api.switch.port, api.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        deleted = await call(api, "DELETE", f"/{shared}")
        gone = await rows(pool, extension)
        (trashed,) = await trash(api, extension)
        hidden = [(await call(api, "GET", path))[0] for path in (f"/{shared}", f"/{shared}/download")]
        listed = (await api.get(f"/v1/voicemail/message?extension={extension}"))["total"]
        told = await waiting(phone, extension)
        restored = await call(api, "POST", f"/{shared}/restore")
        told_again = await waiting(phone, extension, 2)  # without the urgent ones, as this service counts

    assert (deleted, gone, hidden, listed) == ((200, DONE), [], [404, 404], 0)
    assert told == ["0/0"]
    assert {name: trashed[name] for name in ("id", "caller_id_name", "created_at", "read_at", "size", "recording")} == {
        name: before[name] for name in ("id", "caller_id_name", "created_at", "read_at", "size", "recording")
    }
    assert trashed["deleted_at"] < trashed["purged_at"]
    assert restored == (200, DONE)
    assert told_again == ["0/0", "0/1"]
    assert await rows(pool, extension) == [row]
    assert await rows(pool, f"{extension}b") == [other]
    assert await trash(api, extension) == []
    assert Path(row["file_path"]).read_bytes() == SAMPLE.read_bytes()
    assert await api.until(f"/v1/voicemail/message/{shared}", recording="ready", size=before["size"]) == before
    assert await pool.fetchval("SELECT count(*) FROM voicemail.notification WHERE message_id = $1::text::uuid", shared) == 0


async def test_a_message_that_was_just_left_goes_at_once_and_is_not_mailed_again(api: Site, extension: str, pool: Pool) -> None:
    await api.create(extension)
    left = await api.switch.leave_message(extension)
    await api.until(f"/v1/voicemail/message/{left.uuid}", mail="sent")
    mails = len(api.mail.messages)

    assert await call(api, "DELETE", f"/{left.uuid}") == (200, DONE)
    gone = await rows(pool, extension)
    assert left.path.exists(), "the switch may still make copies of it"
    assert await call(api, "POST", f"/{left.uuid}/restore") == (200, DONE)

    assert gone == []
    assert len(await rows(pool, extension)) == 1
    assert (await api.get(f"/v1/voicemail/message/{left.uuid}"))["mail"] == "sent"
    assert len(api.mail.messages) == mails


async def test_a_restored_message_gets_another_place_if_its_own_is_taken(
    api: Site, extension: str, leave: Leave, pool: Pool
) -> None:
    row = await leave()
    path = Path(row["file_path"])
    assert await call(api, "DELETE", f"/{row['uuid']}") == (200, DONE)
    await pool.execute("UPDATE voicemail.removal SET state = 'deleted' WHERE message_id = $1::text::uuid", row["uuid"])
    path.unlink(missing_ok=True)
    path.write_bytes(b"another recording")

    assert await call(api, "POST", f"/{row['uuid']}/restore") == (200, DONE)

    (back,) = await rows(pool, extension)
    assert back["file_path"] != row["file_path"]
    assert back == row | {"file_path": back["file_path"]}
    assert Path(back["file_path"]).read_bytes() == SAMPLE.read_bytes()
    assert path.read_bytes() == b"another recording"
    assert [message["id"] for message in (await api.get(f"/v1/voicemail/message?extension={extension}"))["data"]] == [row["uuid"]]


async def test_a_message_deleted_permanently_is_nowhere(api: Site, extension: str, leave: Leave, pool: Pool) -> None:
    straight, by_trash = await leave(), await leave()
    there = len(aside(api))
    assert await call(api, "DELETE", f"/{straight['uuid']}?permanently=true") == (200, DONE)
    assert await call(api, "DELETE", f"/{by_trash['uuid']}") == (200, DONE)
    kept = [message["id"] for message in await trash(api, extension)]
    assert len(aside(api)) == there + 1

    assert (await call(api, "DELETE", f"/{by_trash['uuid']}"))[0] == 404
    assert await call(api, "DELETE", f"/{by_trash['uuid']}?permanently=true") == (200, DONE)

    assert kept == [by_trash["uuid"]]
    assert await trash(api, extension) == []
    assert len(aside(api)) == there
    for row in (straight, by_trash):
        assert (await call(api, "POST", f"/{row['uuid']}/restore"))[0] == 404
        assert (await call(api, "DELETE", f"/{row['uuid']}?permanently=true"))[0] == 404
    actions = await pool.fetch("SELECT action, detail FROM voicemail.audit WHERE target = $1 ORDER BY at", by_trash["uuid"])
    assert [tuple(row) for row in actions] == [("message.delete", "to the trash"), ("message.delete", "from the trash")]


async def test_a_message_that_is_in_its_mailbox_cannot_be_restored(api: Site, leave: Leave) -> None:
    row = await leave()

    assert (await call(api, "POST", f"/{row['uuid']}/restore"))[0] == 409


async def test_a_message_without_its_recording_goes_and_comes_back_too(
    api: Site, extension: str, leave: Leave, pool: Pool
) -> None:
    inside, outside = await leave(None), await leave(None, file_path="/somewhere/else.wav")

    for row in (inside, outside):
        assert await call(api, "DELETE", f"/{row['uuid']}") == (200, DONE)
    assert {message["recording"] for message in await trash(api, extension)} == {"missing"}
    for row in (inside, outside):
        assert await call(api, "POST", f"/{row['uuid']}/restore") == (200, DONE)

    assert sorted(row["uuid"] for row in await rows(pool, extension)) == sorted([inside["uuid"], outside["uuid"]])


async def test_a_recording_behind_a_link_keeps_its_message(
    api: Site, extension: str, leave: Leave, pool: Pool, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    row = await leave(None)
    Path(row["file_path"]).parent.mkdir(parents=True, exist_ok=True)
    Path(row["file_path"]).symlink_to(tmp_path / "secret")

    status, problem = await call(api, "DELETE", f"/{row['uuid']}")

    assert (status, problem["detail"]) == (503, "the message was not deleted: the recording is not a file")
    assert await rows(pool, extension) == [row]
    assert await trash(api, extension) == []


async def test_two_callers_at_once_delete_it_once_and_restore_it_once(
    api: Site, extension: str, leave: Leave, pool: Pool
) -> None:
    row = await leave()

    deleted = await asyncio.gather(*(call(api, "DELETE", f"/{row['uuid']}") for _ in range(4)))
    in_between = await rows(pool, extension)
    restored = await asyncio.gather(*(call(api, "POST", f"/{row['uuid']}/restore") for _ in range(4)))

    assert in_between == []
    assert {status for status, _ in deleted} <= {200, 404}
    assert 200 in {status for status, _ in deleted}
    assert {status for status, _ in restored} <= {200, 404, 409}
    assert 200 in {status for status, _ in restored}
    assert await rows(pool, extension) == [row]
    assert Path(row["file_path"]).read_bytes() == SAMPLE.read_bytes()


async def test_many_changes_of_a_mailbox_are_few_mwi(api: Site, extension: str, leave: Leave) -> None:
    left = [await leave() for _ in range(20)]

    async with await PlainClient.connect(api.switch.port, api.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        await asyncio.gather(*(call(api, "PATCH", f"/{row['uuid']}", {"read": True}) for row in left))
        await phone.until(lambda _: any(event.headers.get("MWI-Voice-Message") == "0/20" for event in phone.events))
        told = await waiting(phone, extension)

    assert told[-1] == "0/20"
    assert len(told) < 10  # one if the calls come at once; this machine may take seconds for them
