"""Many mailboxes at once: nothing is tried while the switch is away, and one reload serves thousands after it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from app.service import open_service
from tests.support.pbx import PATIENCE, TOKEN, Site, stand_in
from tests.support.service_process import ServiceProcess

MANY = 500
BODY = {"password": "4321", "enabled": True, "mail_to": "tech@example.com"}


async def make(client: aiohttp.ClientSession, extensions: Sequence[str]) -> list[dict[str, Any]]:
    """Create mailboxes, twenty at a time; what the API says of each on the switch."""
    left = iter(extensions)
    made: list[dict[str, Any]] = []

    async def some() -> None:
        for extension in left:
            async with client.post("/v1/voicemail", json={"extension": extension, **BODY}) as answer:
                assert answer.status == 201, await answer.text()
                made.append((await answer.json())["data"]["directory"])

    await asyncio.gather(*(some() for _ in range(20)))
    return made


def extensions(number: int, first: int = 20_000) -> list[str]:
    """So many of them."""
    return [str(first + n) for n in range(number)]


async def until_all_applied(dsn: str, number: int, patience: float = 60) -> None:
    """Wait until the table says that the switch has so many mailboxes, and that nothing waits."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(patience):
            while True:
                rows = await connection.fetch("SELECT state, count(*) FROM voicemail.directory_entry GROUP BY state")
                if {row["state"]: row["count"] for row in rows} == {"applied": number}:
                    return
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def make_due(dsn: str) -> None:
    """Have the switch told everything anew, as if it had all been changed again."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE voicemail.directory_entry SET state = 'pending', attempts = 0, next_try_at = now()")
    await connection.close()


async def away(site: Site) -> None:
    """Stop the switch, and wait until the service knows."""
    await site.switch.stop()
    async with asyncio.timeout(PATIENCE):
        while (await (await site.client.get("/readyz")).json())["checks"]["switch"]["state"] == "ok":
            await asyncio.sleep(0.1)


@pytest.fixture
async def table(database: str) -> "asyncpg.Connection":
    """A connection of the test's own."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def test_nothing_is_tried_while_the_switch_is_away_and_a_few_reloads_bring_all_when_it_is_back(
    stand_in_site: Site, table: "asyncpg.Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    site = stand_in_site
    await site.create("101")
    await away(site)
    capsys.readouterr()

    answers = await make(site.client, extensions(MANY))
    await asyncio.sleep(1.5)  # time for what would try

    assert {answer["state"] for answer in answers} == {"pending"}
    assert all("the switch is not connected" in answer["detail"] for answer in answers)
    assert await table.fetchval("SELECT sum(attempts) FROM voicemail.directory_entry WHERE state = 'pending'") == 0
    assert await table.fetchval("SELECT count(*) FROM voicemail.pgqueuer") <= MANY
    assert await table.fetchval("SELECT count(DISTINCT payload) - count(*) FROM voicemail.pgqueuer") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line or "error" in line]
    assert len(lines) <= 1, lines
    reloads = site.switch.reloads  # type: ignore[attr-defined]

    await site.switch.start()
    await until_all_applied(site.dsn, MANY + 1)

    assert site.switch.reloads - reloads <= 5  # type: ignore[attr-defined]
    assert await table.fetchval("SELECT max(attempts) FROM voicemail.directory_entry") == 1
    assert len(list(site.switch.directory.glob("voicemail-*.xml"))) == MANY + 1


async def test_many_changes_at_once_beside_a_switch_that_is_there_share_reloads(stand_in_site: Site) -> None:
    site = stand_in_site
    site.switch.reload_takes = 0.3  # type: ignore[attr-defined]

    answers = await make(site.client, extensions(100))
    await until_all_applied(site.dsn, 100)

    assert {answer["state"] for answer in answers} <= {"applied", "pending"}
    assert site.switch.reloads < 50  # type: ignore[attr-defined]


async def test_an_answer_that_a_long_reload_keeps_waiting_says_so(stand_in_site: Site) -> None:
    site = stand_in_site
    site.switch.reload_takes = 4.0  # type: ignore[attr-defined]

    mailbox = await site.create("101")

    assert mailbox["directory"]["state"] == "pending"
    assert "the switch is reading its directory again" in mailbox["directory"]["detail"]
    assert "reading its directory" in (await site.get("/v1/voicemail/101"))["directory"]["detail"]
    await site.until("/v1/voicemail/101", directory={"state": "applied", "detail": ""})


async def test_changes_and_removals_say_where_they_stand_and_are_counted(stand_in_site: Site) -> None:
    site = stand_in_site
    kept, removed = await site.create("101"), await site.create("102")
    await away(site)

    async with site.client.put("/v1/voicemail/101", json={"password": "739156", "enabled": True}) as answer:
        changed = await answer.json()
    async with site.client.delete("/v1/voicemail/102") as answer:
        deleted = await answer.json()

    for done in (changed, deleted):
        assert list(done) == ["message", "directory"]
        assert done["message"] == "successfully"
        assert done["directory"]["state"] == "pending"
        assert "the switch is not connected" in done["directory"]["detail"]
    assert (await site.get(f"/v1/voicemail/{kept['id']}"))["directory"]["state"] == "pending"
    for key in ("102", removed["id"]):
        async with site.client.get(f"/v1/voicemail/{key}") as answer:
            assert answer.status == 404
            assert "its removal from the switch is pending: the switch is not connected" in (await answer.json())["detail"]
    await asyncio.sleep(1.1)  # an answer of /readyz is kept for a second
    async with site.client.get("/readyz") as answer:
        assert "1 pending, 0 failed, 1 removals under way" in (await answer.json())["checks"]["mailboxes"]["detail"]

    await site.switch.start()
    await until_all_applied(site.dsn, 1)

    async with site.client.get("/v1/voicemail/102") as answer:
        assert (await answer.json())["detail"] == "there is no mailbox with this id or extension"
    assert [path.name for path in site.switch.directory.iterdir()] == ["voicemail-101.xml"]


async def test_a_mailbox_that_is_deleted_and_made_again_is_there(stand_in_site: Site) -> None:
    site = stand_in_site
    await site.create("101")
    await away(site)
    await (await site.client.delete("/v1/voicemail/101")).read()

    await site.create("101", password="9876")
    await site.switch.start()

    await site.until("/v1/voicemail/101", directory={"state": "applied", "detail": ""})
    assert "9876" in (site.switch.directory / "voicemail-101.xml").read_text()


async def test_one_that_cannot_be_written_does_not_keep_others_from_the_switch(stand_in_site: Site) -> None:
    site = stand_in_site
    (site.switch.directory / "voicemail-20003.xml").mkdir()
    await away(site)
    await make(site.client, extensions(10))

    await site.switch.start()

    for extension in extensions(10):
        if extension != "20003":
            await site.until(f"/v1/voicemail/{extension}", directory={"state": "applied", "detail": ""})
    stuck = (await site.get("/v1/voicemail/20003"))["directory"]
    assert stuck["state"] == "failed"
    assert "cannot be written" in stuck["detail"]


async def test_pins_of_many_mailboxes_are_brought_in_step_with_the_phone(
    stand_in_site: Site, table: "asyncpg.Connection"
) -> None:
    site = stand_in_site
    await make(site.client, extensions(5))
    await table.execute(
        "INSERT INTO voicemail_prefs (username, domain, password) SELECT n::text, 'lab.local', '4321' FROM generate_series(20000, 20003) n"
    )
    await table.execute("INSERT INTO voicemail_prefs (username, domain, password) VALUES ('20004', 'lab.local', '')")
    await away(site)

    for extension in extensions(5):
        async with site.client.put(f"/v1/voicemail/{extension}", json={"password": f"9{extension}", "enabled": True}) as answer:
            assert answer.status == 200
    await site.switch.start()
    await until_all_applied(site.dsn, 5)

    rows = await table.fetch("SELECT username, password FROM voicemail_prefs")
    assert {row["username"]: row["password"] for row in rows} == {extension: f"9{extension}" for extension in extensions(5)}


async def test_two_copies_of_the_service_work_on_the_same_mailboxes(stand_in_site: Site) -> None:
    site = stand_in_site
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        open_service(site.settings()) as other,
        aiohttp.ClientSession(other.url, headers=headers) as client,
    ):
        await asyncio.gather(make(site.client, extensions(60)), make(client, extensions(60, 30_000)))
        await until_all_applied(site.dsn, 120)

        async with client.put("/v1/voicemail/20001", json={"password": "1", "enabled": True}) as answer:
            assert (await answer.json())["directory"] == {"state": "applied", "detail": ""}
        async with site.client.delete("/v1/voicemail/30001") as answer:
            assert (await answer.json())["directory"] == {"state": "applied", "detail": ""}
    assert len(list(site.switch.directory.glob("voicemail-*.xml"))) == 119


async def test_a_service_that_is_killed_in_the_middle_of_a_batch_leaves_nothing_behind(
    database: str, tmp_path: Path, unused_port: int
) -> None:
    switch = stand_in(database, tmp_path)
    await switch.start()
    site = Site(database, tmp_path, switch)
    await site.mail.start()
    number = 100
    url = f"http://127.0.0.1:{unused_port}"

    async def serve() -> ServiceProcess:
        return await ServiceProcess.start(site.environment(http_port=unused_port), tmp_path, unused_port, status="")

    process = await serve()
    try:
        await switch.stop()
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            await make(client, extensions(number))
        switch.reload_takes = 0.5
        reloads = switch.reloads
        await switch.start()
        for pause in (0.1, 0.6):
            async with asyncio.timeout(PATIENCE):
                while switch.reloads == reloads:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(pause)
            await process.kill()
            await make_due(database)
            reloads = switch.reloads
            process = await serve()

        await until_all_applied(database, number)

        assert len(list(switch.directory.glob("voicemail-*.xml"))) == number
    finally:
        await process.kill()
        await site.mail.stop()
        await switch.stop()
