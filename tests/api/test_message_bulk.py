"""One action for many messages over HTTP: a result for each, and one MWI a mailbox."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.database.pool import Pool, open_pool
from tests.api.test_message_actions import SAMPLE, Leave, aside, call, leave, rows, trash, waiting
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site
from tests.support.plain_client import PlainClient
from tests.support.two_domains import OTHER

__all__ = ["leave"]


@pytest.fixture(scope="module")
async def pool(api: Site) -> AsyncIterator[Pool]:
    pool = await open_pool(api.dsn, application_name="test")
    yield pool
    pool.terminate()


async def bulk(api: Site, action: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return await call(api, "POST", "/bulk", {"action": action, **more})


def statuses(body: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["id"], one["status"]) for one in body["data"]]


async def test_each_id_has_its_result_and_the_phones_one_mwi(api: Site, extension: str, leave: Leave, pool: Pool) -> None:
    left = [await leave() for _ in range(30)]
    ids = [row["uuid"] for row in left]
    absent, word = str(uuid4()), "../x\n"

    async with await PlainClient.connect(api.switch.port, api.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        status, body = await bulk(api, "delete", ids=[*ids, absent, word, ids[0].upper()])
        told = await waiting(phone, extension)

    assert status == 200
    assert statuses(body) == [*((id_, 200) for id_ in ids), (absent, 404), (word, 404)]
    assert body["more"] == 0
    assert await rows(pool, extension) == []
    assert told == ["0/0"]
    assert {
        one["id"] for one in (await api.get(f"/v1/voicemail/message?trash=true&limit=50&extension={extension}"))["data"]
    } == set(ids)
    audited = await pool.fetchval(
        "SELECT count(*) FROM voicemail.audit WHERE action = 'message.delete' AND target = ANY($1)", ids
    )
    assert audited == len(ids)
    status, body = await bulk(api, "delete", ids=ids[:2])
    assert statuses(body) == [(ids[0], 404), (ids[1], 404)]

    status, body = await bulk(api, "restore", ids=[*ids, absent])
    assert statuses(body) == [*((id_, 200) for id_ in ids), (absent, 404)]
    assert sorted(row["uuid"] for row in await rows(pool, extension)) == sorted(ids)
    assert {row["file_path"]: row for row in await rows(pool, extension)} == {row["file_path"]: row for row in left}
    assert all(Path(row["file_path"]).read_bytes() == SAMPLE.read_bytes() for row in left)
    status, body = await bulk(api, "restore", ids=ids[:1])
    assert [(one["status"], one["detail"]) for one in body["data"]] == [(409, "the message is not in the trash")]


@pytest.mark.parametrize(
    ("action", "changed"), [("read", {"flags": ""}), ("save", {"flags": "save"}), ("unread", {"read_epoch": 0, "flags": ""})]
)
async def test_marks_are_set_on_every_message_of_a_filter(
    api: Site, extension: str, leave: Leave, pool: Pool, action: str, changed: dict[str, Any]
) -> None:
    left = [await leave(read_epoch=5 if action == "unread" else 0), await leave()]
    other = await leave(username=f"{extension}b")

    _, tried = await bulk(api, action, filter={"extension": extension}, dry_run=True)
    untouched = await rows(pool, extension)
    _, done = await bulk(api, action, filter={"extension": extension})

    assert statuses(tried) == statuses(done)
    assert sorted(one["id"] for one in done["data"]) == sorted(row["uuid"] for row in left)
    assert {one["detail"] for one in tried["data"]} == {"would be done"}
    assert untouched == sorted(left, key=lambda row: row["file_path"])
    for row in await rows(pool, extension):
        assert (row["read_epoch"] > 0) == (action == "read")
        assert {name: row[name] for name in changed} == changed
    assert await rows(pool, f"{extension}b") == [other]


@pytest.mark.parametrize("action", ["move", "copy"])
async def test_messages_go_to_another_mailbox_and_the_phones_have_one_mwi(
    api: Site, extension: str, leave: Leave, pool: Pool, action: str
) -> None:
    target = f"{extension}b"
    await api.create(target)
    left = [await leave() for _ in range(5)]
    lost = await leave(None)
    ids = [row["uuid"] for row in (*left, lost)]

    _, tried = await bulk(api, action, ids=ids, to=target, dry_run=True)
    nothing = await rows(pool, target)
    async with await PlainClient.connect(api.switch.port, api.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        _, done = await bulk(api, action, ids=ids, to=target)
        told = await waiting(phone, target)

    assert nothing == []
    assert statuses(tried) == statuses(done) == [*((id_, 200) for id_ in ids[:-1]), (ids[-1], 409)]
    assert len(await rows(pool, target)) == len(left)
    assert [row["uuid"] for row in await rows(pool, extension)] == (
        [lost["uuid"]] if action == "move" else [row["uuid"] for row in await rows(pool, extension)]
    )
    assert len(await rows(pool, extension)) == (1 if action == "move" else 6)
    assert told == ["5/0"]


async def test_deleted_recordings_stay_in_the_trash_only(api: Site, extension: str, leave: Leave, pool: Pool) -> None:
    row, without = await leave(), await leave(None)
    before = len(aside(api))

    _, body = await bulk(api, "delete", ids=[row["uuid"], without["uuid"]])

    assert [one["status"] for one in body["data"]] == [200, 200]
    assert len(aside(api)) == before + 1
    assert {one["id"]: one["recording"] for one in await trash(api, extension)} == {
        row["uuid"]: "ready", without["uuid"]: "missing"
    }  # fmt: skip


async def test_messages_of_another_domain_are_as_if_they_were_not_there(
    api: Site, extension: str, leave: Leave, pool: Pool
) -> None:
    row = await leave()
    await api.get(f"/v1/voicemail/message?extension={extension}")
    token = await make_token(api.dsn, f"far-{extension}", [OTHER])

    for action, more in (("read", {}), ("delete", {}), ("restore", {}), ("copy", {"to": extension})):
        async with api.client.post(
            "/v1/voicemail/message/bulk",
            json={"action": action, "ids": [row["uuid"]], **more},
            headers={"Authorization": f"Bearer {token}"},
        ) as answer:
            assert [one["status"] for one in (await answer.json())["data"]] == [404], action
    async with api.client.post(
        "/v1/voicemail/message/bulk",
        json={"action": "delete", "filter": {"domain": DOMAIN}},
        headers={"Authorization": f"Bearer {token}"},
    ) as answer:
        assert answer.status == 404

    assert await rows(pool, extension) == [row]


@pytest.mark.parametrize(
    "body",
    [
        {"action": "read"},
        {"action": "read", "ids": []},
        {"action": "read", "ids": ["x"], "filter": {}},
        {"action": "read", "ids": ["x"] * 1001},
        {"action": "read", "ids": [1]},
        {"action": "read", "ids": ["x" * 65]},
        {"action": "burn", "ids": ["x"]},
        {"action": "move", "ids": ["x"]},
        {"action": "read", "ids": ["x"], "to": "102"},
        {"action": "copy", "ids": ["x"], "to": "../x"},
        {"action": "read", "filter": {"extension": "\u0000"}},
        {"action": "read", "filter": {"flags": "x"}},
        {"action": "read", "ids": ["x"], "dry_run": "yes"},
    ],
    ids=range(13),
)
async def test_other_orders_are_refused(api: Site, body: dict[str, Any]) -> None:
    assert (await call(api, "POST", "/bulk", body))[0] == 422
