"""Greetings and the recorded name over HTTP: the files, and the rows by which the switch finds them."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.sandbox.switch import StandInSwitch
from tests.support.pbx import DOMAIN, Site
from tests.support.tones import encoded, facts, seconds_of, tone

TONE = 1500
WAV = {"Content-Type": "audio/wav"}
DONE = {"message": "successfully"}


async def ask(api: Site, method: str, path: str, **request: Any) -> tuple[int, Any]:
    """Status and body of a call below /v1/voicemail/."""
    async with api.client.request(method, f"/v1/voicemail/{path}", **request) as answer:
        return answer.status, await (answer.json() if "json" in answer.content_type else answer.read())


async def put(api: Site, extension: str, slot: str, data: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
    """Upload a greeting."""
    return await ask(api, "PUT", f"{extension}/greeting/{slot}{query}", data=data, headers=headers or WAV)


async def heard(api: Site, extension: str) -> Path | None:
    """The file that the stand-in plays to a caller."""
    assert isinstance(api.switch, StandInSwitch)
    return await api.switch.greeting(extension)


@pytest.fixture
async def mailbox(api: Site, extension: str) -> str:
    """A mailbox of the test's own, which has no folder yet."""
    await api.create(extension)
    return extension


async def test_a_new_mailbox_has_no_greeting(api: Site, mailbox: str) -> None:
    assert await ask(api, "GET", f"{mailbox}/greeting") == (200, {"data": [], "plays": "default"})
    for method, path in (("GET", "1"), ("DELETE", "1"), ("POST", "1/activate"), ("GET", "name"), ("DELETE", "name")):
        status, body = await ask(api, method, f"{mailbox}/greeting/{path}")
        assert (status, body["detail"]) == (404, "this slot is empty")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (lambda: tone(TONE, rate=44_100, channels=2), "audio/wav"),
        (lambda: encoded(tone(TONE, rate=44_100), "MP3", "MPEG_LAYER_III"), "audio/mpeg"),
        (lambda: encoded(tone(TONE, rate=44_100), "OGG", "VORBIS"), "audio/ogg"),
        (lambda: encoded(tone(TONE, rate=48_000), "OGG", "OPUS"), "audio/ogg"),
        (lambda: encoded(tone(TONE), "WAV", "GSM610"), "application/octet-stream"),
    ],
    ids=["wav", "mp3", "vorbis", "opus", "gsm"],
)
async def test_an_upload_becomes_what_the_switch_plays(api: Site, mailbox: str, data: Any, kind: str) -> None:
    status, body = await put(api, mailbox, "3", data(), **{"Content-Type": kind})

    assert status == 200
    assert (body["message"], body["data"]["slot"], body["data"]["active"]) == ("successfully", "3", False)
    _, audio = await ask(api, "GET", f"{mailbox}/greeting/3")
    assert facts(audio)[:3] == (1, 2, 8000)
    assert 0.9 <= facts(audio)[3] <= 1.2
    assert seconds_of(audio, TONE) >= 0.8
    assert (api.switch.recordings / DOMAIN / mailbox / "greeting_3.wav").read_bytes() == audio
    assert await heard(api, mailbox) is None


async def test_a_greeting_is_played_from_its_activation_to_its_deletion(api: Site, mailbox: str) -> None:
    folder = api.switch.recordings / DOMAIN / mailbox
    await put(api, mailbox, "1", tone(TONE))
    await put(api, mailbox, "2", tone(700))

    assert await ask(api, "POST", f"{mailbox}/greeting/2/activate") == (200, DONE)
    assert await heard(api, mailbox) == folder / "greeting_2.wav"
    _, listed = await ask(api, "GET", f"{mailbox}/greeting")
    assert [(one["slot"], one["active"], one["duration"]) for one in listed["data"]] == [("1", False, 1.0), ("2", True, 1.0)]
    assert listed["plays"] == "greeting"

    assert await ask(api, "DELETE", f"{mailbox}/greeting/1") == (200, DONE)
    assert await heard(api, mailbox) == folder / "greeting_2.wav"
    assert await ask(api, "DELETE", f"{mailbox}/greeting/2") == (200, DONE)
    assert await heard(api, mailbox) is None
    assert list(folder.iterdir()) == []
    connection = await asyncpg.connect(api.dsn)
    assert await connection.fetchval("SELECT greeting_path FROM voicemail_prefs WHERE username = $1", mailbox) is None
    await connection.close()


async def test_back_to_the_default_keeps_the_slots(api: Site, mailbox: str) -> None:
    status, body = await put(api, mailbox, "9", tone(TONE), "?activate=true")
    assert (status, body["data"]["active"]) == (200, True)

    assert await ask(api, "POST", f"{mailbox}/greeting/default") == (200, DONE)

    assert await heard(api, mailbox) is None
    _, listed = await ask(api, "GET", f"{mailbox}/greeting")
    assert ([one["slot"] for one in listed["data"]], listed["plays"]) == (["9"], "default")


async def test_the_recorded_name_is_played_at_once_and_only_without_a_greeting(api: Site, mailbox: str) -> None:
    folder = api.switch.recordings / DOMAIN / mailbox
    await put(api, mailbox, "name", tone(TONE))
    assert await heard(api, mailbox) == folder / "recorded_name.wav"
    assert (await ask(api, "GET", f"{mailbox}/greeting"))[1]["plays"] == "name"

    await put(api, mailbox, "1", tone(700), "?activate=true")
    assert await heard(api, mailbox) == folder / "greeting_1.wav"

    assert await ask(api, "DELETE", f"{mailbox}/greeting/name") == (200, DONE)
    assert await ask(api, "POST", f"{mailbox}/greeting/default") == (200, DONE)
    assert await heard(api, mailbox) is None


async def test_a_second_upload_replaces_the_first_and_stays_active(api: Site, mailbox: str) -> None:
    await put(api, mailbox, "1", tone(700), "?activate=true")

    status, body = await put(api, mailbox, "1", tone(TONE))

    assert (status, body["data"]["active"]) == (200, True)
    path = await heard(api, mailbox)
    assert path is not None
    assert seconds_of(path, TONE) >= 0.8
    assert [entry.name for entry in path.parent.iterdir()] == ["greeting_1.wav"]


async def test_the_pin_of_the_mailbox_and_its_row_stay(api: Site, mailbox: str) -> None:
    connection = await asyncpg.connect(api.dsn)
    await connection.execute("INSERT INTO voicemail_prefs (username, domain, password) VALUES ($1, $2, '4321')", mailbox, DOMAIN)
    await connection.execute("INSERT INTO voicemail_prefs (username, domain) VALUES ($1, 'other.example')", mailbox)

    await put(api, mailbox, "1", tone(TONE), "?activate=true")

    rows = await connection.fetch(
        "SELECT domain, password, greeting_path FROM voicemail_prefs WHERE username = $1 ORDER BY domain", mailbox
    )
    path = str(api.switch.recordings / DOMAIN / mailbox / "greeting_1.wav")
    assert [tuple(row) for row in rows] == [(DOMAIN, "4321", path), ("other.example", None, None)]
    await connection.close()


async def test_a_greeting_that_a_phone_recorded_is_listed_and_one_set_elsewhere_is_said(api: Site, mailbox: str) -> None:
    folder = api.switch.recordings / DOMAIN / mailbox
    folder.mkdir(parents=True)
    (folder / "greeting_4.wav").write_bytes(tone(TONE))
    connection = await asyncpg.connect(api.dsn)
    await connection.execute(
        "INSERT INTO voicemail_prefs (username, domain, greeting_path) VALUES ($1, $2, $3)",
        mailbox, DOMAIN, f"{api.switch.recordings}//{DOMAIN}/{mailbox}/greeting_4.wav",
    )  # fmt: skip
    _, listed = await ask(api, "GET", f"{mailbox}/greeting")
    assert [(one["slot"], one["active"]) for one in listed["data"]] == [("4", True)]

    for path, plays in (("/elsewhere/greeting_1.wav", "other"), (f"{folder}/greeting_8.wav", "default")):
        await connection.execute("UPDATE voicemail_prefs SET greeting_path = $2 WHERE username = $1", mailbox, path)
        _, listed = await ask(api, "GET", f"{mailbox}/greeting")
        assert ([one["active"] for one in listed["data"]], listed["plays"]) == ([False], plays)
    await connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"this is text", bytes(4000), b"\xff\xfb" * 3000, b"RIFF\0\0\0\0WAVEfmt ", tone(TONE)[:44], b"OggS" + bytes(500),
        tone(TONE)[:24] + b"\xff\xff\xff\xff" + tone(TONE)[28:], tone(TONE)[:22] + b"\0\0" + tone(TONE)[24:],
    ],
    ids=["empty", "text", "nul", "sync", "riff", "header", "ogg", "rate", "channels"],
)  # fmt: skip
async def test_what_is_no_audio_is_refused_and_changes_nothing(api: Site, mailbox: str, data: bytes) -> None:
    status, body = await put(api, mailbox, "1", data)

    assert status == 422
    assert body["errors"][0]["field"] == "body"
    assert (await ask(api, "GET", f"{mailbox}/greeting"))[1]["data"] == []
    assert not (api.switch.recordings / DOMAIN / mailbox).exists()


async def test_hours_in_a_small_file_are_refused(api: Site, mailbox: str) -> None:
    quiet = encoded(tone(0, 60), "MP3", "MPEG_LAYER_III")
    for head in (b"Xing", b"Info"):  # which counts the frames
        quiet = quiet.replace(head, bytes(4))

    status, body = await put(api, mailbox, "1", quiet * (9_000_000 // len(quiet)), **{"Content-Type": "audio/mpeg"})

    assert (status, body["errors"]) == (422, [{"field": "body", "message": "must be at most 180 seconds of audio"}])


async def test_a_body_that_is_too_large_or_no_audio_by_its_own_words_is_refused(api: Site, mailbox: str) -> None:
    async def pieces() -> Any:
        for _ in range(11):
            yield bytes(1024 * 1024)

    for data in (bytes(10 * 1024 * 1024 + 1), pieces()):
        async with api.client.put(f"/v1/voicemail/{mailbox}/greeting/1", data=data, headers=WAV) as answer:
            assert answer.status == 413
            assert (await answer.json())["detail"] == "the body is larger than 10 MiB"
    for headers in ({"Content-Type": "application/json"}, {"Content-Type": "text/plain"}, WAV | {"Content-Encoding": "gzip"}):
        assert (await put(api, mailbox, "1", tone(TONE), **headers))[0] == 415


async def test_slots_are_one_to_nine_and_name(api: Site, mailbox: str) -> None:
    for slot in ("0", "10", "٣", "..%2f1", "1%2f..%2f2", "name%00", "NAME", "1.wav", "%F0%9F%8E%89", "a" * 300):
        for method in ("GET", "DELETE"):
            assert (await ask(api, method, f"{mailbox}/greeting/{slot}"))[0] in (404, 405)
        assert (await put(api, mailbox, slot, tone(TONE)))[0] in (404, 405)


async def test_only_the_greeting_that_was_read_is_replaced_or_deleted(api: Site, mailbox: str) -> None:
    assert (await put(api, mailbox, "1", tone(TONE, 0.2), **WAV, **{"If-Match": '"0-0"'}))[0] == 412
    await put(api, mailbox, "1", tone(TONE, 0.2))
    async with api.client.get(f"/v1/voicemail/{mailbox}/greeting/1") as answer:
        etag = answer.headers["ETag"]

    assert (await put(api, mailbox, "1", tone(700, 0.3), **WAV, **{"If-Match": etag}))[0] == 200
    assert (await put(api, mailbox, "1", tone(TONE, 0.4), **WAV, **{"If-Match": etag}))[0] == 412
    assert (await ask(api, "DELETE", f"{mailbox}/greeting/1", headers={"If-Match": etag}))[0] == 412

    assert (await ask(api, "GET", f"{mailbox}/greeting"))[1]["data"][0]["duration"] == 0.3


async def test_a_link_in_place_of_a_greeting_is_not_followed(api: Site, mailbox: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    folder = api.switch.recordings / DOMAIN / mailbox
    folder.mkdir(parents=True)
    (folder / "greeting_1.wav").symlink_to(secret)
    (folder / ".greeting_1.wav.new").symlink_to(secret)

    assert (await ask(api, "GET", f"{mailbox}/greeting/1"))[0] == 404
    assert (await ask(api, "POST", f"{mailbox}/greeting/1/activate"))[0] == 404
    assert (await put(api, mailbox, "1", tone(TONE)))[0] == 503

    assert secret.read_bytes() == b"secret"


async def test_uploads_and_deletions_at_once_never_leave_a_path_to_nothing(api: Site, mailbox: str) -> None:
    async def change(number: int) -> int:
        if number % 2:
            return (await ask(api, "DELETE", f"{mailbox}/greeting/1"))[0]
        return (await put(api, mailbox, "1", tone(TONE, 0.2), "?activate=true"))[0]

    statuses = await asyncio.gather(*(change(number) for number in range(8)))

    assert set(statuses) <= {200, 404}
    connection = await asyncpg.connect(api.dsn)
    paths = await connection.fetch("SELECT greeting_path FROM voicemail_prefs WHERE username = $1", mailbox)
    await connection.close()
    assert len(paths) == 1
    assert paths[0][0] is None or Path(paths[0][0]).exists()


async def test_every_change_and_download_is_audited(api: Site, mailbox: str) -> None:
    await put(api, mailbox, "1", tone(TONE, 0.2))
    await ask(api, "POST", f"{mailbox}/greeting/1/activate")
    await ask(api, "GET", f"{mailbox}/greeting/1")
    await ask(api, "POST", f"{mailbox}/greeting/default")
    await ask(api, "DELETE", f"{mailbox}/greeting/1")

    rows = (await api.get(f"/v1/audit?extension={mailbox}"))["data"]

    told = [(row["action"], row["target"], row["result"]) for row in rows if row["action"].startswith("greeting.")]
    assert told[::-1] == [
        ("greeting.set", "1", "allowed"), ("greeting.activate", "1", "allowed"), ("greeting.audio", "1", "allowed"),
        ("greeting.default", "", "allowed"), ("greeting.delete", "1", "allowed"),
    ]  # fmt: skip


async def test_the_greetings_of_a_deleted_mailbox_stay_as_its_messages_do(api: Site, mailbox: str) -> None:
    await put(api, mailbox, "1", tone(TONE), "?activate=true")

    await ask(api, "DELETE", mailbox)

    assert (await ask(api, "GET", f"{mailbox}/greeting"))[0] == 404
    assert await heard(api, mailbox) == api.switch.recordings / DOMAIN / mailbox / "greeting_1.wav"
