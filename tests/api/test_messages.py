"""Messages over HTTP: the switch's rows as they are, whatever is in them."""

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.database.pool import Pool, open_pool
from tests.support.access_tokens import make_token
from tests.support.databases import another
from tests.support.pbx import DOMAIN, Site, stand_in
from tests.support.switch_rows import insert, switch_row

FIXED = ["id", "created_at", "caller_id_name", "caller_id_number", "duration", "extension", "download_url"]
SAMPLE = next((Path(__file__).parents[2] / "app/sandbox/recordings").glob("*.wav"))

Leave = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture(scope="module")
async def switch_pool(api: Site) -> AsyncIterator[Pool]:
    pool = await open_pool(api.dsn, application_name="test")
    yield pool
    pool.terminate()


@pytest.fixture
async def leave(api: Site, extension: str, switch_pool: Pool) -> AsyncIterator[Leave]:
    """Leaves a message for the test's extension as the switch does, with these columns; gives the row."""
    used = {extension}

    async def leave(content: bytes | None = None, **fields: Any) -> dict[str, Any]:
        path = api.switch.recordings / DOMAIN / extension / f"msg_{uuid4()}.wav"
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        row = switch_row(**{"username": extension, "file_path": str(path)} | fields)
        await insert(switch_pool, row)
        used.add(row["username"])
        return row

    yield leave
    await switch_pool.execute("DELETE FROM voicemail_msgs WHERE username = ANY($1::text[]) OR username IS NULL", [*used - {None}])


def listed(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a list shows it: without what is known of its recording."""
    assert "audio" in message
    return {key: value for key, value in message.items() if key != "audio"}


async def refused(site: Site, path: str, status: int = 404) -> str:
    """The detail of the problem that a path gives."""
    async with site.client.get(path) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "application/problem+json"
        return str((await answer.json())["detail"])


async def test_a_message_is_its_row(api: Site, extension: str, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes(), created_epoch=1_630_037_624, message_len=7, cid_name="089", cid_number="0891234567")
    await api.until(f"/v1/voicemail/message/{row['uuid']}", recording="ready")

    page = await api.get(f"/v1/voicemail/message?extension={extension}")

    (message,) = page["data"]
    assert list(message)[:7] == FIXED
    assert {name: message[name] for name in FIXED} == {
        "id": row["uuid"],
        "created_at": "2021-08-27T11:13:44+07:00",
        "caller_id_name": "089",
        "caller_id_number": "0891234567",
        "duration": 7,
        "extension": extension,
        "download_url": f"http://{api.client._base_url.authority}/v1/voicemail/message/{row['uuid']}/download",
    }
    assert (page["limit"], page["offset"], page["total"]) == (10, 0, 1)
    assert listed(await api.get(f"/v1/voicemail/message/{row['uuid']}")) == message


async def test_a_mailbox_s_own_time_zone_is_used(api: Site, extension: str, leave: Leave) -> None:
    await api.create(extension, time_zone="America/St_Johns", mail_to="")
    row = await leave(created_epoch=1_630_037_624)

    message = await api.get(f"/v1/voicemail/message/{row['uuid']}")

    assert message["created_at"] == "2021-08-27T01:43:44-02:30"


async def test_messages_are_newest_first_and_in_pages(api: Site, extension: str, leave: Leave) -> None:
    rows = [await leave(created_epoch=1_700_000_000 + number) for number in (3, 1, 2, 5, 4)]
    newest_first = [row["uuid"] for row in sorted(rows, key=lambda row: -row["created_epoch"])]

    path = f"/v1/voicemail/message?extension={extension}"
    everything, part = await api.get(path), await api.get(path + "&limit=2&offset=1")
    newest = await api.get(f"/v1/voicemail/message/{extension}")

    assert [message["id"] for message in everything["data"]] == newest_first
    assert [message["id"] for message in part["data"]] == newest_first[1:3]
    assert (part["limit"], part["offset"], part["total"]) == (2, 1, 5)
    assert newest["id"] == newest_first[0]
    assert (await api.get(path + "&offset=99"))["total"] == 5


async def test_rows_that_share_a_uuid_have_ids_of_their_own_that_stay(api: Site, extension: str, leave: Leave) -> None:
    shared = str(uuid4())
    path = f"/v1/voicemail/message?extension={extension}"
    await leave(uuid=shared, created_epoch=1_700_000_000)
    first = (await api.get(path))["data"][0]["id"]
    await leave(uuid=shared, created_epoch=1_700_000_005)

    ids = [message["id"] for message in (await api.get(path))["data"]]

    assert first == shared
    assert ids[1] == shared
    assert UUID(ids[0]).version == 5
    assert [message["id"] for message in (await api.get(path))["data"]] == ids
    for id_ in ids:
        assert (await api.get(f"/v1/voicemail/message/{id_}"))["id"] == id_
    assert (await api.get(f"/v1/voicemail/message/{ids[0]}"))["created_at"] > (await api.get(f"/v1/voicemail/message/{ids[1]}"))[
        "created_at"
    ]


async def test_a_message_flagged_delete_is_not_shown(api: Site, extension: str, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes(), flags="delete")

    assert (await api.get(f"/v1/voicemail/message?extension={extension}"))["total"] == 0
    for path in (row["uuid"], extension, f"{row['uuid']}/download"):
        await refused(api, f"/v1/voicemail/message/{path}")


async def test_a_message_outside_the_token_s_domains_does_not_exist(api: Site, extension: str, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes(), domain="elsewhere.example")
    token = await make_token(api.dsn, f"lab-{extension}", [DOMAIN])

    assert (await api.get(f"/v1/voicemail/message?extension={extension}"))["total"] == 0
    headers = {"Authorization": f"Bearer {token}"}
    for path in (row["uuid"], f"{row['uuid']}/download", f"{extension}/download"):
        async with api.client.get(f"/v1/voicemail/message/{path}", headers=headers) as answer:
            assert answer.status == 404


ODD = {
    "null": None,
    "empty": "",
    "long": "n" * 255,
    "emoji": "🎉" * 63,
    "newlines": "a\r\nb\nc",
    "sql": "'); DROP TABLE voicemail_msgs; --",
    "xml": "</xml>&\"'<",
    "variable": "${x} $${y} %0A",
    "controls": "\x01\x1b[31m\x7f",
    "turning": "\u202egnp",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
async def test_a_row_with_odd_text_is_served(api: Site, extension: str, leave: Leave, text: str | None) -> None:
    row = await leave(cid_name=text, cid_number=text, flags=None, read_flags=text and text[:20], forwarded_by=None)

    message = await api.get(f"/v1/voicemail/message/{row['uuid']}")
    page = await api.get(f"/v1/voicemail/message?extension={extension}")

    assert message["caller_id_name"] == message["caller_id_number"] == (text or "")
    assert page["data"] == [listed(message)]


@pytest.mark.parametrize("column", ["created_epoch", "read_epoch", "message_len", "uuid", "file_path", "in_folder", "flags"])
async def test_a_row_with_a_null_is_served(api: Site, extension: str, leave: Leave, column: str) -> None:
    await leave(**{column: None})

    (message,) = (await api.get(f"/v1/voicemail/message?extension={extension}"))["data"]

    assert UUID(message["id"])
    assert listed(await api.get(f"/v1/voicemail/message/{message['id']}")) == message


@pytest.mark.parametrize("epoch", [0, -1, 2**31 - 1, -(2**31)])
async def test_any_time_is_served(api: Site, extension: str, leave: Leave, epoch: int) -> None:
    row = await leave(created_epoch=epoch, message_len=-5)

    message = await api.get(f"/v1/voicemail/message/{row['uuid']}")

    assert message["duration"] == 0
    assert message["created_at"][-6] in "+-"


async def test_bytes_that_are_no_utf8_are_served(database: str, postgres: str, tmp_path: Path) -> None:
    """A switch whose database has no encoding stores whatever bytes a caller sent."""
    admin = await asyncpg.connect(postgres)
    await admin.execute("CREATE DATABASE test_api_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    await admin.close()
    dsn = another(postgres, "test_api_bytes")
    site = Site(database, tmp_path, stand_in(dsn, tmp_path))
    await site.open(switch_database_url=dsn)
    try:
        connection = await asyncpg.connect(dsn)
        for number in range(3):
            await connection.execute(
                "INSERT INTO voicemail_msgs (created_epoch, username, domain, uuid, cid_name, file_path)"
                " VALUES (1700000000, '7', $1, $2, convert_from('\\x41ff42'::bytea, 'SQL_ASCII'), '/x/msg_1.wav')",
                DOMAIN,
                str(uuid4()),
            )
            # Again and again: a connection that was used once serves as well as a new one.
            messages = (await site.get("/v1/voicemail/message?extension=7"))["data"]
            assert [message["caller_id_name"] for message in messages] == ["A\ufffdB"] * (number + 1)
        await connection.close()
    finally:
        await site.close()


async def test_a_recording_is_downloaded_whole(api: Site, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes())

    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download") as answer:
        content = await answer.read()

    assert answer.status == 200
    assert content == SAMPLE.read_bytes()
    assert answer.headers["Content-Type"] == "audio/wav"
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer.headers["Cache-Control"]


async def test_an_extension_in_place_of_the_id_downloads_the_newest(api: Site, extension: str, leave: Leave) -> None:
    await leave(b"old", created_epoch=1_700_000_000)
    await leave(b"new", created_epoch=1_700_000_001)

    async with api.client.get(f"/v1/voicemail/message/{extension}/download") as answer:
        assert await answer.read() == b"new"


async def test_head_tells_the_length_without_the_recording(api: Site, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes())

    async with api.client.head(f"/v1/voicemail/message/{row['uuid']}/download") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(SAMPLE.stat().st_size))
        assert await answer.read() == b""


async def test_a_range_gives_that_part(api: Site, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes())

    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download", headers={"Range": "bytes=10-19"}) as answer:
        assert (answer.status, await answer.read()) == (206, SAMPLE.read_bytes()[10:20])


async def test_a_range_outside_the_recording_is_a_problem_that_says_its_size(api: Site, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes())

    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download", headers={"Range": "bytes=99999999-"}) as answer:
        assert (answer.status, (await answer.json(content_type=None))["status"]) == (416, 416)
        assert answer.headers["Content-Range"] == f"bytes */{SAMPLE.stat().st_size}"
        assert answer.content_type == "application/problem+json"


async def test_a_client_that_has_the_recording_is_not_sent_it_again(api: Site, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes())
    path = f"/v1/voicemail/message/{row['uuid']}/download"
    async with api.client.get(path) as answer:
        etag, modified = answer.headers["ETag"], answer.headers["Last-Modified"]

    for condition in ({"If-None-Match": etag}, {"If-None-Match": f'"other", W/{etag}'}, {"If-Modified-Since": modified}):
        async with api.client.get(path, headers=condition) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
    for condition, status in (({"If-Range": etag}, 206), ({"If-Range": modified}, 206), ({"If-Range": '"other"'}, 200)):
        async with api.client.get(path, headers=condition | {"Range": "bytes=0-3"}) as answer:
            assert (answer.status, (await answer.read())[:4]) == (status, b"RIFF")


async def test_a_compressed_file_beside_the_recording_is_never_served(api: Site, leave: Leave) -> None:
    row = await leave(SAMPLE.read_bytes())
    Path(row["file_path"] + ".gz").write_bytes(b"somebody else's")
    Path(row["file_path"] + ".br").write_bytes(b"somebody else's")

    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download", headers={"Accept-Encoding": "gzip, br"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert await answer.read() == SAMPLE.read_bytes()


async def test_a_recording_that_is_gone_is_a_clear_404(api: Site, leave: Leave) -> None:
    row = await leave()

    detail = await refused(api, f"/v1/voicemail/message/{row['uuid']}/download")

    assert "is gone" in detail
    assert Path(row["file_path"]).name in detail
    assert str(api.folder) not in detail


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{root}/../secret.wav", "{root}/lab.local/../../secret.wav", "relative.wav", "", "{root}", "{root}/link.wav",
             "{root}/folder.wav", "{root}/" + "x" * 240, "${root}/x", "{root}/a\nb.wav"],
    ids=range(11),
)  # fmt: skip
async def test_nothing_outside_the_recordings_is_ever_served(api: Site, leave: Leave, path: str) -> None:
    root = api.switch.recordings
    (root.parent / "secret.wav").write_bytes(b"secret")
    link = root / "link.wav"
    if not link.is_symlink():
        link.symlink_to(root.parent / "secret.wav")
    (root / "folder.wav").mkdir(exist_ok=True)
    row = await leave(file_path=path.replace("{root}", str(root))[:255])

    detail = await refused(api, f"/v1/voicemail/message/{row['uuid']}/download")

    told = ("is gone", "not in the recordings folder", "is not a file", "is not followed", "cannot be read")
    assert any(words in detail for words in told)
    assert str(api.folder) not in detail
    assert (await api.get(f"/v1/voicemail/message/{row['uuid']}"))["id"] == row["uuid"]


async def test_a_file_name_cannot_break_the_download_s_headers(api: Site, leave: Leave) -> None:
    path = api.switch.recordings / 'msg_"\r\nX-Evil: 1\r\n;é🎉.wav'
    path.write_bytes(b"RIFF")
    row = await leave(file_path=str(path))

    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download") as answer:
        assert answer.status == 200
        assert "X-Evil" not in answer.headers
        assert answer.content_disposition is not None
        assert answer.content_disposition.type == "attachment"


async def test_a_large_recording_is_streamed(api: Site, leave: Leave) -> None:
    content = bytes(range(256)) * 4096 * 32  # 32 MiB
    row = await leave(content)
    digest, pieces = hashlib.sha256(), 0

    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download") as answer:
        async for piece in answer.content.iter_any():
            digest.update(piece)
            pieces += 1

    assert digest.digest() == hashlib.sha256(content).digest()
    assert pieces > 8


async def test_reading_and_downloading_change_nothing(api: Site, extension: str, leave: Leave, switch_pool: Pool) -> None:
    row = await leave(SAMPLE.read_bytes())
    before = await switch_pool.fetchrow("SELECT * FROM voicemail_msgs WHERE uuid = $1", row["uuid"])

    await api.get(f"/v1/voicemail/message?extension={extension}")
    await api.get(f"/v1/voicemail/message/{row['uuid']}")
    async with api.client.get(f"/v1/voicemail/message/{row['uuid']}/download") as answer:
        await answer.read()

    assert await switch_pool.fetchrow("SELECT * FROM voicemail_msgs WHERE uuid = $1", row["uuid"]) == before
    assert (await api.get(f"/v1/voicemail/message/{row['uuid']}"))["read"] is False


@pytest.mark.parametrize("extension", ["a%20b", "message", "%0A", "x" * 65, "%00", "%27%20OR%201=1--"])
async def test_a_wrong_extension_is_named(api: Site, extension: str) -> None:
    async with api.client.get(f"/v1/voicemail/message?extension={extension}") as answer:
        assert answer.status == 422
        assert [error["field"] for error in (await answer.json())["errors"]] == ["extension"]


@pytest.mark.parametrize(
    "key",
    ["nobody", "7d3b5e0c-9a44-4c58-8f1e-d0c5b8f1e7a2", "%00", "..%2f..%2fetc", "%F0%9F%8E%89", "x" * 400, "urn:uuid:1", "%0A"],
)
async def test_an_unknown_message_is_not_found(api: Site, key: str) -> None:
    await refused(api, f"/v1/voicemail/message/{key}")
    await refused(api, f"/v1/voicemail/message/{key}/download")
    await refused(api, f"/v1/voicemail/message/{key}/notification")
