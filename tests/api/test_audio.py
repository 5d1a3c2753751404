"""Recordings as any client can play them: formats, ranges, conditions, waveforms, links and ZIPs."""

import asyncio
import io
import os
import struct
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from app.access.scopes import Scope
from app.database.pool import Pool, open_pool
from tests.support.access_tokens import make_token
from tests.support.conversions import children
from tests.support.pbx import DOMAIN, TOKEN, Site
from tests.support.sounds import SAMPLE, in_format, wav
from tests.support.switch_rows import insert, switch_row

Leave = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture(scope="module")
async def switch_pool(api: Site) -> AsyncIterator[Pool]:
    pool = await open_pool(api.dsn, application_name="test")
    yield pool
    pool.terminate()


@pytest.fixture
async def leave(api: Site, extension: str, switch_pool: Pool) -> Leave:
    """Leaves a message with this recording for the test's extension; gives the message's id."""

    async def leave(content: bytes | None = None, suffix: str = ".wav", **fields: Any) -> str:
        path = api.switch.recordings / DOMAIN / extension / f"msg_{uuid4()}{suffix}"
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        row = switch_row(**{"username": extension, "file_path": str(path)} | fields)
        await insert(switch_pool, row)
        return str(row["uuid"])

    return leave


async def download(api: Site, id_: str, query: str = "", **headers: str) -> tuple[int, bytes, Any]:
    """Status, body and headers of a download."""
    async with api.client.get(f"/v1/voicemail/message/{id_}/download{query}", headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


async def link_to(api: Site, id_: str, *, token: str = TOKEN, **body: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    async with api.client.post(f"/v1/voicemail/message/{id_}/link", json=body, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        made: dict[str, Any] = await answer.json()
        return made


async def opened(api: Site, url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    """What a stranger with a link is given."""
    async with aiohttp.ClientSession() as nobody, nobody.request(method, url, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


async def audited(api: Site, id_: str) -> list[tuple[str, str, str]]:
    """Actor, action and detail of the rows about a message, oldest first."""
    connection = await asyncpg.connect(api.dsn)
    rows = await connection.fetch("SELECT actor, action, detail FROM voicemail.audit WHERE target = $1 ORDER BY at, id", id_)
    await connection.close()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(("query", "media_type", "mark"), [
    ("?format=wav", "audio/wav", b"RIFF"), ("?format=mp3", "audio/mpeg", b"\xff"), ("?format=ogg", "audio/ogg", b"OggS"),
])  # fmt: skip
@pytest.mark.parametrize("codec", ["ulaw", "gsm"])
async def test_a_recording_is_given_in_the_format_that_is_asked_for(
    api: Site, leave: Leave, query: str, media_type: str, mark: bytes, codec: str
) -> None:
    id_ = await leave(in_format(codec))

    status, content, headers = await download(api, id_, query)

    assert (status, headers["Content-Type"], content[: len(mark)]) == (200, media_type, mark)
    assert headers["Content-Disposition"].startswith(f'attachment; filename="msg_{headers["Content-Disposition"][26:62]}')
    assert f'.{query.removeprefix("?format=")}"' in headers["Content-Disposition"]
    assert (await download(api, id_, query))[1] == content
    ranged = await download(api, id_, query, Range="bytes=5-9")
    assert (ranged[0], ranged[1]) == (206, content[5:10])


async def test_accept_chooses_and_nothing_is_converted_without_it(api: Site, leave: Leave) -> None:
    content = in_format("ulaw")
    id_ = await leave(content)

    found = {}
    for accept in (
        "*/*",
        "audio/*",
        "audio/wav",
        "audio/x-wav, audio/mpeg;q=0.9",
        "text/html",
        "audio/mpeg",
        "audio/ogg, audio/*;q=0.5",
    ):
        _, body, headers = await download(api, id_, Accept=accept)
        found[accept] = headers["Content-Type"]
        assert headers["Vary"] == "Accept"
        assert (body == content) is (headers["Content-Type"] == "audio/wav")

    assert found == {
        "*/*": "audio/wav", "audio/*": "audio/wav", "audio/wav": "audio/wav", "audio/x-wav, audio/mpeg;q=0.9": "audio/wav",
        "text/html": "audio/wav", "audio/mpeg": "audio/mpeg", "audio/ogg, audio/*;q=0.5": "audio/ogg",
    }  # fmt: skip


async def test_formats_of_one_recording_have_etags_of_their_own(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())

    tags = {(await download(api, id_, query))[2]["ETag"] for query in ("", "?format=mp3", "?format=ogg")}
    (tag,) = {(await download(api, id_, "?format=mp3"))[2]["ETag"] for _ in range(2)}
    status, _, _ = await download(api, id_, "?format=mp3", **{"If-None-Match": tag})

    assert len(tags) == 3
    assert status == 304


async def test_a_wav_file_that_every_player_knows_is_given_as_it_is(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())

    assert (await download(api, id_, "?format=wav"))[1] == SAMPLE.read_bytes()


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 400_000])
async def test_a_header_that_lies_about_its_length_is_put_right(api: Site, leave: Leave, length: int) -> None:
    true = wav(seconds=1)
    id_ = await leave(true[:40] + struct.pack("<I", length) + true[44:])

    _, content, _ = await download(api, id_, "?format=wav")
    waveform = await api.get(f"/v1/voicemail/message/{id_}/waveform?points=4")

    assert content == true
    assert waveform["duration"] == 1.0
    assert len(waveform["peaks"]) == 4


async def test_a_truncated_recording_is_what_there_is_of_it(api: Site, leave: Leave) -> None:
    whole = wav(seconds=2)
    id_ = await leave(whole[: 44 + 8000])

    waveform = await api.get(f"/v1/voicemail/message/{id_}/waveform")
    status, content, _ = await download(api, id_, "?format=mp3")

    assert waveform["duration"] == 0.5
    assert (status, content[:1]) == (200, b"\xff")


async def test_a_recording_that_grows_is_never_kept_as_it_was(api: Site, extension: str, leave: Leave) -> None:
    id_ = await leave(wav(seconds=1))
    before = await api.get(f"/v1/voicemail/message/{id_}/waveform?points=1")
    (path,) = (api.switch.recordings / DOMAIN / extension).glob("*.wav")
    path.write_bytes(wav(seconds=3))

    assert before["duration"] == 1.0
    assert (await api.get(f"/v1/voicemail/message/{id_}/waveform?points=1"))["duration"] == 3.0


@pytest.mark.parametrize(("content", "suffix"), [
    (b"<html>no audio at all</html>" * 50, ".wav"), (b"", ".wav"), (wav(seconds=0)[:44], ".wav"), (b"RIFF\xff\xff\xff\xffWAVEfmt ", ".wav"),
    (b"\xff\xfb" + bytes(100), ".mp3"), (b"OggS" + bytes(500), ".ogg"), (bytes(range(256)), ".speex"),
], ids=range(7))  # fmt: skip
async def test_what_is_no_audio_is_sent_as_it_is_and_a_clear_refusal_else(
    api: Site, leave: Leave, content: bytes, suffix: str
) -> None:
    id_ = await leave(content, suffix)

    as_it_is = await download(api, id_)
    preferred = await download(api, id_, Accept="audio/flac;q=0, audio/mpeg, */*;q=0")
    status, body, headers = await download(api, id_, "?format=ogg")

    assert as_it_is[:2] == (200, content)
    assert preferred[0] == 200
    if status != 200:  # an empty but well-formed WAV file is an empty Ogg file
        assert (status, headers["Content-Type"].split(";")[0]) == (422, "application/problem+json")
        assert b"convert" in body
    async with api.client.get(f"/v1/voicemail/message/{id_}/waveform") as answer:
        assert answer.status in (200, 422)
        if answer.status == 200:
            assert (await answer.json()) == {"peaks": [], "duration": 0.0}


@pytest.mark.parametrize(("content", "suffix", "media_type"), [
    (b"<html>", ".wav", "application/octet-stream"), (wav(seconds=0.1), ".mp3", "audio/wav"), (in_format("ogg"), ".wav", "audio/ogg"),
    (in_format("mp3"), ".mp3", "audio/mpeg"), (b"\x55" * 300, ".ul", "audio/basic"),
], ids=range(5))  # fmt: skip
async def test_the_content_says_what_it_is_and_not_the_name(
    api: Site, leave: Leave, content: bytes, suffix: str, media_type: str
) -> None:
    assert (await download(api, await leave(content, suffix)))[2]["Content-Type"] == media_type


@pytest.mark.parametrize(
    "codec", ["ulaw", "alaw", "gsm", "ima", "float", "ogg", "opus", "mp3", "au", "aiff", "raw.ul", "raw.al", "raw.gsm", "raw.sln"]
)
async def test_whatever_the_switch_writes_can_be_converted(api: Site, leave: Leave, codec: str) -> None:
    suffix = "." + (
        codec.partition(".")[2] or {"ogg": "ogg", "opus": "opus", "mp3": "mp3", "au": "au", "aiff": "aiff"}.get(codec, "wav")
    )
    id_ = await leave(in_format(codec, seconds=1), suffix)

    waveform = await api.get(f"/v1/voicemail/message/{id_}/waveform?points=20")

    assert waveform["duration"] == pytest.approx(1.0, abs=0.1)
    assert max(waveform["peaks"]) == pytest.approx(0.5, abs=0.15)


async def test_disposition_is_what_is_asked_for(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())

    assert (await download(api, id_, "?disposition=inline"))[2]["Content-Disposition"].startswith("inline; filename=")
    assert (await download(api, id_, "?disposition=attachment"))[2]["Content-Disposition"].startswith("attachment; ")
    assert (await download(api, id_, "?disposition=evil"))[0] == 422
    assert (await download(api, id_, "?format=exe"))[0] == 422


async def test_conditions_are_those_of_rfc_9110(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    _, _, headers = await download(api, id_)
    tag, modified = headers["ETag"], headers["Last-Modified"]
    before = format_datetime(datetime.fromtimestamp(1_600_000_000, UTC), usegmt=True)

    asked: list[tuple[dict[str, str], int]] = [
        ({"If-None-Match": "*"}, 304), ({"If-None-Match": '"*"'}, 200), ({"If-None-Match": f"W/{tag}"}, 304),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200), ({"If-None-Match": "broken", "If-Modified-Since": modified}, 200),
        ({"If-Modified-Since": before}, 200), ({"If-Modified-Since": "no date"}, 200), ({"If-Match": tag}, 200), ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412), ({"If-Match": f"W/{tag}"}, 412), ({"If-Unmodified-Since": before}, 412),
        ({"If-Unmodified-Since": modified}, 200), ({"Range": "bytes=0-3", "If-Range": f"W/{tag}"}, 200), ({"Range": "bytes=0-3", "If-Range": before}, 200),
        ({"Range": "bytes=0-3", "If-Range": modified}, 206), ({"Range": "bytes=0-3", "If-None-Match": tag}, 304), ({"Range": "bytes=0-1,4-5"}, 200),
        ({"Range": "seconds=0-1"}, 200), ({"Range": "bytes=9999999999-", "If-Range": '"other"'}, 200), ({"Range": "bytes=0-" + "9" * 30}, 206),
    ]  # fmt: skip
    for given, expected in asked:
        status, body, answered = await download(api, id_, **given)
        assert status == expected, given
        if status == 304:
            assert (body, answered["ETag"], answered["Last-Modified"]) == (b"", tag, modified)


async def test_head_has_no_ranges_and_no_content(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    path = f"/v1/voicemail/message/{id_}/download"

    for query in ("", "?format=mp3"):
        _, content, headers = await download(api, id_, query)
        async with api.client.head(path + query, headers={"Range": "bytes=0-3"}) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(content)))
            assert answer.headers["ETag"] == headers["ETag"]
            assert await answer.read() == b""


async def test_a_recording_that_was_cut_while_it_is_sent_ends_the_connection(api: Site, extension: str, leave: Leave) -> None:
    id_ = await leave(bytes(64 * 1024 * 1024))
    (path,) = (api.switch.recordings / DOMAIN / extension).glob("*.wav")

    async with api.client.get(f"/v1/voicemail/message/{id_}/download") as answer:
        await answer.content.read(1000)
        os.truncate(path, 2000)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_each_reading_is_audited_before_its_first_byte(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())

    await download(api, id_, "?format=mp3")
    await api.get(f"/v1/voicemail/message/{id_}/waveform")
    async with api.client.post("/v1/voicemail/message/download", json={"ids": [id_]}) as answer:
        await answer.read()

    assert await audited(api, id_) == [
        ("token", "message.audio", ""), ("token", "message.waveform", ""), ("token", "message.audio", "in a ZIP"),
    ]  # fmt: skip


async def test_a_waveform_has_as_many_points_as_are_asked_for(api: Site, leave: Leave) -> None:
    id_ = await leave(wav(seconds=2))
    path = f"/v1/voicemail/message/{id_}/waveform"

    by_default = await api.get(path)
    many = await api.get(f"{path}?points=2000")

    assert (len(by_default["peaks"]), len(many["peaks"])) == (200, 2000)
    assert by_default["duration"] == many["duration"] == 2.0
    assert max(by_default["peaks"]) == max(many["peaks"]) <= 1.0
    for wrong in ("0", "2001", "x"):
        async with api.client.get(f"{path}?points={wrong}") as answer:
            assert answer.status == 422


# --- links


async def test_a_link_opens_the_recording_without_a_token(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    began = datetime.now(UTC)

    made = await link_to(api, id_)
    status, content, headers = await opened(api, made["url"])

    assert (status, content) == (200, SAMPLE.read_bytes())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "private, no-store")
    expires = datetime.fromisoformat(made["expires_at"])
    assert timedelta(minutes=59) < expires - began < timedelta(minutes=61)
    assert (await opened(api, made["url"], Range="bytes=0-3"))[:2] == (206, b"RIFF")
    assert (await opened(api, made["url"] + "?format=mp3&disposition=inline"))[2]["Content-Type"] == "audio/mpeg"
    assert [(row[0], row[1]) for row in await audited(api, id_)] == [("token", "link.create"), *[("link", "message.audio")] * 3]


async def test_a_link_can_be_made_without_a_body(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())

    async with api.client.post(f"/v1/voicemail/message/{id_}/link") as answer:
        assert answer.status == 201
        assert set(await answer.json()) == {"url", "expires_at", "id"}


@pytest.mark.parametrize("seconds", [0, 59, 30 * 24 * 3600 + 1, -1, "1h", 1.5])
async def test_a_link_works_from_a_minute_to_thirty_days(api: Site, leave: Leave, seconds: Any) -> None:
    id_ = await leave(SAMPLE.read_bytes())

    async with api.client.post(f"/v1/voicemail/message/{id_}/link", json={"expires_in": seconds}) as answer:
        assert answer.status == 422


async def test_a_scanner_that_opens_a_link_changes_nothing(api: Site, leave: Leave, switch_pool: Pool) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    made = await link_to(api, id_)
    before = await switch_pool.fetchrow("SELECT * FROM voicemail_msgs WHERE uuid = $1", id_)

    for method, expected in (("HEAD", 200), ("GET", 200), ("POST", 401), ("PUT", 401), ("DELETE", 401), ("GET", 200)):
        assert (await opened(api, made["url"], method))[0] == expected

    assert await switch_pool.fetchrow("SELECT * FROM voicemail_msgs WHERE uuid = $1", id_) == before


async def test_links_are_listed_and_revoked_one_by_one_or_together(api: Site, leave: Leave) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    path = f"/v1/voicemail/message/{id_}/link"
    first, second, third = [await link_to(api, id_) for _ in range(3)]
    assert {link["id"] for link in (await api.get(path))["data"]} == {first["id"], second["id"], third["id"]}

    async with api.client.delete(f"{path}/{first['id']}") as answer:
        assert (answer.status, await answer.json()) == (200, {"message": "successfully"})
    states = [(await opened(api, link["url"]))[0] for link in (first, second, third)]
    async with api.client.delete(path) as answer:
        assert answer.status == 200
    after = [(await opened(api, link["url"]))[0] for link in (first, second, third)]

    assert (states, after) == ([404, 200, 200], [404, 404, 404])
    for link in (first["id"], str(uuid4()), "x", "%00"):
        async with api.client.delete(f"{path}/{link}") as answer:
            assert answer.status == 404
    assert [row[1] for row in await audited(api, id_)].count("link.revoke") == 3


async def test_an_expired_a_wrong_and_a_revoked_link_are_the_same_404(api: Site, leave: Leave, switch_pool: Pool) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    expired, revoked = await link_to(api, id_), await link_to(api, id_)
    await switch_pool.execute("UPDATE voicemail.link SET expires_at = now() WHERE id = $1::text::uuid", expired["id"])
    async with api.client.delete(f"/v1/voicemail/message/{id_}/link/{revoked['id']}"):
        pass
    base = expired["url"].rpartition("/")[0]

    found = [
        await opened(api, url)
        for url in (expired["url"], revoked["url"], f"{base}/{'A' * 43}", f"{base}/x", f"{base}/%00", f"{base}/{'é' * 43}")
    ]

    assert {(status, body) for status, body, _ in found} == {(404, found[0][1])}


async def test_a_link_is_dead_when_its_message_is_gone(api: Site, leave: Leave, switch_pool: Pool) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    made = await link_to(api, id_)

    await switch_pool.execute("DELETE FROM voicemail_msgs WHERE uuid = $1", id_)

    assert (await opened(api, made["url"]))[0] == 404


@pytest.mark.parametrize("change", [
    "DELETE FROM voicemail.api_token WHERE name = $1", "UPDATE voicemail.api_token_secret SET expires_at = now() WHERE token = $1",
    "UPDATE voicemail.api_token SET scopes = '{message:read}' WHERE name = $1", "DELETE FROM voicemail.api_token_domain WHERE token = $1",
], ids=["revoked", "expired", "scope", "domain"])  # fmt: skip
async def test_a_link_is_dead_when_its_token_s_right_is(api: Site, leave: Leave, switch_pool: Pool, change: str) -> None:
    id_, name = await leave(SAMPLE.read_bytes()), f"t{uuid4().hex[:12]}"
    token = await make_token(api.dsn, name, [DOMAIN], [Scope.MESSAGE_AUDIO])
    made = await link_to(api, id_, token=token)
    assert (await opened(api, made["url"]))[0] == 200

    await switch_pool.execute(change, name)

    assert (await opened(api, made["url"]))[0] == 404


async def test_no_log_line_has_a_link_s_secret(api: Site, leave: Leave, capsys: pytest.CaptureFixture[str]) -> None:
    made = await link_to(api, await leave(SAMPLE.read_bytes()))
    secret = made["url"].rpartition("/")[2]
    base = made["url"].removesuffix(f"/link/{secret}")

    for path in ("/link/{}", "/link/{}/", "/link/{}/more", "//link/{}", "/v1/link/{}", "/link/x/{}", "/%6Cink/{}", "/Link/{}"):
        await opened(api, base + path.format(secret))
        await opened(api, base + path.format(secret), "DELETE")

    written = capsys.readouterr()
    assert secret not in written.out + written.err


async def test_a_message_has_at_most_a_hundred_links(api: Site, leave: Leave, switch_pool: Pool) -> None:
    id_ = await leave(SAMPLE.read_bytes())
    await link_to(api, id_)
    await switch_pool.execute(
        "INSERT INTO voicemail.link (digest, message_id, domain, made_by, expires_at)"
        " SELECT sha256(n::text::bytea || $1::text::bytea), $1::text::uuid, $2, 'x', now() + interval '1 hour' FROM generate_series(1, 99) n",
        id_, DOMAIN,
    )  # fmt: skip

    async with api.client.post(f"/v1/voicemail/message/{id_}/link", json={}) as answer:
        assert answer.status == 409


# --- ZIP


async def zipped(api: Site, ids: list[str], **body: Any) -> zipfile.ZipFile:
    async with api.client.post("/v1/voicemail/message/download", json={"ids": ids} | body) as answer:
        assert (answer.status, answer.content_type) == (200, "application/zip"), await answer.text()
        return zipfile.ZipFile(io.BytesIO(await answer.read()))


async def test_a_selection_is_a_zip_with_names_that_tell_when_and_who(api: Site, leave: Leave) -> None:
    of_alice = {"cid_name": "Alice", "cid_number": "0891234567", "created_epoch": 1_763_949_000, "message_len": 7}
    ids = [await leave(SAMPLE.read_bytes(), **of_alice), await leave(b"another", **of_alice | {"cid_name": "ALICE"})]

    archive = await zipped(api, [*ids, ids[0]])

    assert archive.namelist() == ["2025-11-24 0850 0891234567 Alice 7s.wav", "2025-11-24 0850 0891234567 ALICE 7s (2).wav"]
    assert archive.testzip() is None
    assert archive.read(archive.namelist()[0]) == SAMPLE.read_bytes()
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


HOSTILE = [
    "../../etc/passwd",
    "a\r\nb",
    "C:\\x",
    "x" * 255,
    "🎉" * 60,
    "\u202egnp.exe",
    "...",
    'con?*<>|"',
    "a\x00".replace("\x00", "\x01"),
    "é" * 200,
    "",
]


async def test_a_caller_s_name_cannot_leave_the_folder(api: Site, leave: Leave) -> None:
    ids = [await leave(b"x", cid_name=name, cid_number=name[:255]) for name in HOSTILE]

    names = (await zipped(api, ids)).namelist()

    assert len({name.casefold() for name in names}) == len(HOSTILE)
    for name in names:
        assert len(name.encode()) < 140
        assert not set(name) & set('/\\:*?"<>|\r\n\x01\u202e')
        assert name.startswith("20")
        assert name.endswith(".wav")


async def test_what_is_missing_is_named_in_the_zip(api: Site, extension: str, leave: Leave) -> None:
    there, vanished, outside = await leave(b"here"), await leave(), await leave(file_path="/etc/passwd")
    unknown = str(uuid4())

    archive = await zipped(api, [vanished, there, unknown, outside])

    assert len(archive.namelist()) == 2
    assert archive.read(archive.namelist()[0]) == b"here"
    text = archive.read("MISSING.txt").decode()
    for id_ in (vanished, unknown, outside):
        assert id_ in text
    assert there not in text
    assert str(api.folder) not in text


async def test_a_recording_that_was_cut_while_it_is_zipped_is_named(api: Site, extension: str, leave: Leave) -> None:
    id_ = await leave(bytes(64 * 1024 * 1024))
    (path,) = (api.switch.recordings / DOMAIN / extension).glob("*.wav")

    async with api.client.post("/v1/voicemail/message/download", json={"ids": [id_]}) as answer:
        begin = await answer.content.read(1000)
        os.truncate(path, 2000)
        archive = zipfile.ZipFile(io.BytesIO(begin + await answer.read()))

    assert archive.testzip() is None
    assert archive.infolist()[0].file_size < 64 * 1024 * 1024
    assert f"{id_}: {archive.namelist()[0]} is incomplete" in archive.read("MISSING.txt").decode()


async def test_a_selection_of_nothing_that_is_there_is_not_found(api: Site, leave: Leave) -> None:
    foreign = await leave(SAMPLE.read_bytes(), domain="elsewhere.example")
    token = await make_token(api.dsn, f"t{uuid4().hex[:12]}", [DOMAIN])

    for ids in ([str(uuid4())], [foreign]):
        headers = {"Authorization": f"Bearer {token}"}
        async with api.client.post("/v1/voicemail/message/download", json={"ids": ids}, headers=headers) as answer:
            assert answer.status == 404
    for wrong in ([], ["x"], [str(uuid4())] * 1001, "x", None):
        async with api.client.post("/v1/voicemail/message/download", json={"ids": wrong}) as answer:
            assert answer.status == 422


async def test_a_client_that_leaves_a_zip_leaves_no_file_open(api: Site, leave: Leave) -> None:
    ids = [await leave(bytes(8 * 1024 * 1024)) for _ in range(3)]

    def open_files() -> int:
        return sum(1 for file in Path("/proc/self/fd").iterdir() if "msg_" in os.path.realpath(file))

    async with api.client.post("/v1/voicemail/message/download", json={"ids": ids}) as answer:
        await answer.content.read(1000)
        async with asyncio.timeout(10):
            while open_files() != 1:  # the index is done with the other ones
                await asyncio.sleep(0.02)
        answer.close()
    async with asyncio.timeout(10):
        while open_files():
            await asyncio.sleep(0.02)


async def test_a_conversion_ends_when_its_client_goes(api: Site, extension: str, leave: Leave) -> None:
    head = wav(seconds=0)
    id_ = await leave(head[:40] + (200_000_000).to_bytes(4, "little") + bytes(200_000_000))

    asking = asyncio.ensure_future(download(api, id_, "?format=mp3"))
    async with asyncio.timeout(10):
        while not children():
            await asyncio.sleep(0.02)
    asking.cancel()
    async with asyncio.timeout(10):
        while children():
            await asyncio.sleep(0.02)

        while list((api.folder / "audio").glob(".draft-*")):
            await asyncio.sleep(0.02)
