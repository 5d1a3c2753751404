"""Move, copy and forward over HTTP: the other mailbox has the message once, with its caller, time and recording."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.database.pool import Pool, open_pool
from tests.api.test_message_actions import SAMPLE, Leave, call, leave, rows, waiting
from tests.support.pbx import DOMAIN, Site
from tests.support.plain_client import PlainClient
from tests.support.two_domains import OTHER, host, put_mailbox

__all__ = ["leave"]


@pytest.fixture(scope="module")
async def pool(api: Site) -> AsyncIterator[Pool]:
    pool = await open_pool(api.dsn, application_name="test")
    yield pool
    pool.terminate()


@pytest.fixture
async def target(api: Site, extension: str, leave: Leave) -> str:
    """An enabled mailbox beside the test's own one; both are emptied after the test."""
    name = f"{extension}b"
    await api.create(name, mail_to="b@example.com")
    return name


async def send(api: Site, id_: str, verb: str, *to: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return await call(api, "POST", f"/{id_}/{verb}", {"to": list(to), **more})


OLD = {"read_epoch": 1_700_000_100, "flags": "save", "read_flags": "A_URGENT", "cid_name": "Alice Nguyễn"}


@pytest.mark.parametrize("verb", ["move", "copy", "forward"])
async def test_a_message_comes_new_to_the_other_mailbox_and_is_mailed_however_old(
    api: Site, extension: str, target: str, leave: Leave, pool: Pool, verb: str
) -> None:
    row = await leave(**OLD)

    async with await PlainClient.connect(api.switch.port, api.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        status, body = await send(api, row["uuid"], verb, target)
        there = await waiting(phone, target)
        here = [] if verb != "move" else await waiting(phone, extension)

    assert status == 200
    (one,) = body["data"]
    assert (one["extension"], one["domain"], one["status"], one["detail"]) == (target, DOMAIN, 200, "")
    (new,) = await rows(pool, target)
    forwarded = extension if verb == "forward" else row["forwarded_by"]
    assert new == row | {
        "username": target, "uuid": one["id"], "file_path": new["file_path"], "read_epoch": 0, "flags": "", "forwarded_by": forwarded,
    }  # fmt: skip
    path = Path(new["file_path"])
    assert (path.name, path.parent.name) == (f"msg_{one['id']}.wav", target)
    assert path.read_bytes() == SAMPLE.read_bytes()
    if verb != "move":
        assert path.stat().st_nlink == 1, "what is written to one recording must not be in the other"
    assert await rows(pool, extension) == ([] if verb == "move" else [row])
    assert there == ["1/0"]
    assert here == ([] if verb != "move" else ["0/0"])
    shown = await api.until(f"/v1/voicemail/message/{one['id']}", mail="sent", recording="ready")
    assert (shown["caller_id_name"], shown["urgent"], shown["read"]) == ("Alice Nguyễn", True, False)
    audited = await pool.fetch("SELECT action, extension, detail FROM voicemail.audit WHERE target = $1", row["uuid"])
    assert [tuple(line) for line in audited if line[0] == f"message.{verb}"] == [
        (f"message.{verb}", extension, f"to {target}@{DOMAIN} as {one['id']}")
    ]


async def test_a_moved_message_is_gone_and_its_recording_stays_for_the_other_mailbox(
    api: Site, extension: str, target: str, leave: Leave, pool: Pool
) -> None:
    row = await leave()

    _, body = await send(api, row["uuid"], "move", target)

    assert (await call(api, "GET", f"/{row['uuid']}"))[0] == 404
    assert (await send(api, row["uuid"], "move", target))[0] == 404
    (new,) = await rows(pool, target)
    assert Path(new["file_path"]).exists()
    assert (await send(api, body["data"][0]["id"], "copy", target))[0] == 409


async def test_several_mailboxes_get_a_message_each_with_a_uuid_of_its_own(
    api: Site, extension: str, target: str, leave: Leave, pool: Pool
) -> None:
    third = f"{extension}c"
    await api.create(third, mail_to="")
    row = await leave()

    status, body = await send(api, row["uuid"], "copy", target, third, target)

    assert status == 200
    assert [one["extension"] for one in body["data"]] == [target, third]
    copies = [*await rows(pool, target), *await rows(pool, third)]
    assert [copy["uuid"] for copy in copies] == [one["id"] for one in body["data"]]
    await pool.execute("DELETE FROM voicemail_msgs WHERE username = $1", third)


async def test_a_target_that_is_unknown_disabled_foreign_or_the_same_gets_nothing(
    api: Site, extension: str, target: str, leave: Leave, pool: Pool
) -> None:
    row = await leave()
    await api.create(f"{extension}x", enabled=False)

    for to, wanted in (
        (f"{extension}n", (404, f"to: there is no mailbox {extension}n")),
        (f"{extension}x", (409, f"to: the mailbox {extension}x is disabled")),
        (extension, (404, f"to: there is no mailbox {extension}")),
    ):
        for verb, others in (("move", []), ("copy", [target]), ("forward", [target])):
            status, body = await send(api, row["uuid"], verb, *others, to)
            assert (status, body["detail"]) == wanted
    await api.create(extension)
    assert (await send(api, row["uuid"], "copy", extension))[0] == 409
    assert (await send(api, row["uuid"], "copy", target, domain="nowhere.example"))[0] == 404

    assert await rows(pool, target) == []
    assert await rows(pool, extension) == [row]


@pytest.mark.parametrize("to", [[], "102", None, ["../x"], ["a\nb"], ["x" * 65], ["\u0000"], ["102", 103], ["message"]])
async def test_what_names_no_mailboxes_is_refused(api: Site, leave: Leave, extension: str, pool: Pool, to: Any) -> None:
    row = await leave()

    for verb in ("move", "copy", "forward"):
        status, body = await call(api, "POST", f"/{row['uuid']}/{verb}", {"to": to})
        assert status == 422
        assert body["errors"][0]["field"].startswith("to")
    assert (await call(api, "POST", f"/{row['uuid']}/move", {"to": ["1", "2"]}))[0] == 422


async def test_a_message_without_recording_is_not_sent(api: Site, target: str, leave: Leave, pool: Pool) -> None:
    row = await leave(None)

    status, body = await send(api, row["uuid"], "copy", target)

    assert (status, body["detail"]) == (409, "its recording is missing")
    assert await rows(pool, target) == []


async def test_a_mailbox_of_another_domain_of_the_token_gets_it(api: Site, extension: str, leave: Leave, pool: Pool) -> None:
    row = await leave()
    await host(pool)
    await put_mailbox(pool, extension, id=uuid4())

    status, body = await send(api, row["uuid"], "forward", extension, domain=OTHER)

    assert status == 200, body
    (new,) = [one for one in await rows(pool, extension) if one["domain"] == OTHER]
    assert new["forwarded_by"] == f"{extension}@{DOMAIN}"
    assert Path(new["file_path"]).parts[-3:-1] == (OTHER, extension)
