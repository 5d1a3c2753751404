"""/healthz and /readyz: what is away is named, and the rest goes on."""

import asyncio
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from app.access.scopes import ALL_SCOPES, Scope
from app.embedded.postgres import EmbeddedPostgres
from app.errors import Unavailable
from app.http.health import OneAtATime
from app.notifications import part as notifications_part
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, PATIENCE, Site, stand_in
from tests.support.scripted_mail import ScriptedMail


async def ready(site: Site) -> tuple[int, dict[str, str]]:
    """The status of /readyz and the state of each check, as an admin is told."""
    async with site.client.get("/readyz") as answer:
        checks = (await answer.json())["checks"]
        assert all(check["detail"] for check in checks.values())
        return answer.status, {name: check["state"] for name, check in checks.items()}


def vital_failed(checks: dict[str, str]) -> bool:
    """Whether anything is away without which no call can be answered."""
    return "failed" in (checks["database"], checks["voicemail_tables"])


async def until_ready(site: Site, **wanted: str) -> None:
    """Wait until these checks have these states, and the status that follows from them all."""
    found: tuple[int, dict[str, str]] = (0, {})
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await ready(site)
                if wanted.items() <= found[1].items() and found[0] == (503 if vital_failed(found[1]) else 200):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"never {wanted}, but {found}")


async def test_all_is_well_with_each_named(api: Site) -> None:
    await until_ready(
        api, database="ok", voicemail_tables="ok", switch="ok", jobs="ok", directory="ok", recordings="ok", mail="ok"
    )
    async with aiohttp.ClientSession(api.client._base_url) as nobody, nobody.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


@pytest.fixture
def mail_asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not wait for a minute."""
    monkeypatch.setattr(notifications_part, "_MAIL_SERVER_ASKED_EVERY", 0.0)


@pytest.mark.usefixtures("mail_asked_often")
async def test_what_is_away_is_named_and_comes_back(stand_in_site: Site) -> None:
    site = stand_in_site
    recordings = site.switch.recordings

    await site.switch.stop()
    await site.mail.stop()
    recordings.rename(recordings.with_name("elsewhere"))
    await until_ready(site, switch="failed", mail="failed", recordings="failed", database="ok")
    async with aiohttp.ClientSession(site.client._base_url) as nobody, nobody.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "degraded")
    async with site.client.get("/v1/voicemail") as answer:
        assert answer.status == 200

    recordings.with_name("elsewhere").rename(recordings)
    await site.mail.start()
    await site.switch.start()
    await until_ready(site, switch="ok", mail="ok", recordings="ok", database="ok", jobs="ok")


async def test_a_database_that_goes_and_comes_back(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    async with postgres as dsn:
        site = Site(dsn, tmp_path, stand_in(dsn, tmp_path))
        await site.open()
        try:
            await site.create("101")
            unseen = await make_token(dsn, "unseen")
            await postgres.stop()

            await until_ready(site, database="failed", switch="ok")
            async with site.client.get("/readyz", headers={"Authorization": f"Bearer {unseen}"}) as answer:
                # Nobody knows whether this token is valid, so it is told what anybody is told.
                assert (answer.status, (await answer.json())["checks"]["database"]) == (503, {"state": "failed"})
            async with aiohttp.ClientSession(site.client._base_url) as nobody, nobody.get("/healthz") as answer:
                assert answer.status == 200
            for method, path in (("GET", "/v1/voicemail"), ("GET", "/v1/voicemail/message"), ("DELETE", "/v1/voicemail/101")):
                async with site.client.request(method, path) as answer:
                    assert answer.status == 503
                    assert answer.content_type == "application/problem+json"
                    assert answer.headers["Retry-After"]
                    assert dsn not in await answer.text()

            await postgres.start()
            await until_ready(site, database="ok", jobs="ok", switch="ok")
            left = await site.switch.leave_message("101")
            await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="sent")
        finally:
            await site.close()


async def test_a_role_that_may_not_read_the_switch_s_tables_is_told(stand_in_site: Site) -> None:
    site = stand_in_site
    await until_ready(site, voicemail_tables="ok")
    connection = await asyncpg.connect(site.dsn)
    try:
        await connection.execute("REVOKE SELECT ON voicemail_prefs FROM CURRENT_USER")
        await until_ready(site, voicemail_tables="degraded", database="ok")

        await connection.execute("REVOKE SELECT ON voicemail_msgs FROM CURRENT_USER")
        await until_ready(site, voicemail_tables="failed", database="ok")
        async with site.client.get("/readyz") as answer:
            found = await answer.json()
            assert (answer.status, found["status"]) == (503, "failed")
            assert "GRANT SELECT ON voicemail_msgs" in found["checks"]["voicemail_tables"]["detail"]

        # A grant of the columns that are read is enough.
        await connection.execute(
            "GRANT SELECT (created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path,"
            " message_len, flags) ON voicemail_msgs TO CURRENT_USER"
        )
        await connection.execute("GRANT SELECT ON voicemail_prefs TO CURRENT_USER")
        await until_ready(site, voicemail_tables="ok")

        await connection.execute("ALTER TABLE voicemail_msgs RENAME COLUMN in_folder TO folder")
        await until_ready(site, voicemail_tables="failed")
        await connection.execute("DROP TABLE voicemail_msgs")
        await until_ready(site, voicemail_tables="failed")
    finally:
        await connection.close()


async def test_a_database_that_takes_no_changes_is_degraded(stand_in_site: Site) -> None:
    site = stand_in_site
    await until_ready(site, database="ok")
    connection = await asyncpg.connect(site.dsn)
    name = site.dsn.rpartition("/")[2]
    try:
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'voicemail %' AND datname = $1",
            name,
        )
        await until_ready(site, database="degraded")
        async with site.client.get("/v1/voicemail") as answer:
            assert answer.status == 200
    finally:
        await connection.close()


async def test_a_directory_that_cannot_be_written_is_told(stand_in_site: Site) -> None:
    site = stand_in_site
    directory = site.switch.directory
    (directory / ".voicemail-probe.tmp").mkdir()  # nothing can be written under that name; root may write anywhere else
    await until_ready(site, directory="failed", database="ok")

    (directory / ".voicemail-probe.tmp").rmdir()
    await until_ready(site, directory="ok")
    assert list(directory.iterdir()) == []


async def test_a_disk_that_hangs_takes_one_thread() -> None:
    asked, hanging = 0, asyncio.Event()

    async def look() -> str:
        nonlocal asked
        asked += 1
        await hanging.wait()
        return "there"

    check = OneAtATime(look)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(check(), 0.01)
    hanging.set()

    assert await check() == "there"
    assert asked == 1
    assert await check() == "there"
    assert asked == 2


async def test_a_check_that_costs_others_is_made_at_most_once_in_its_time() -> None:
    asked, now, wrong = 0, 1000.0, True

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if wrong:
            raise Unavailable("away")
        return "answers"

    check = OneAtATime(ask, every=60.0, clock=lambda: now)
    for _ in range(3):
        with pytest.raises(Unavailable, match="away"):
            await check()
        now += 19.0
    wrong = False
    now += 3.0
    assert [await check() for _ in range(3)] == ["answers"] * 3
    assert asked == 2


async def test_without_an_admin_token_there_are_names_and_states_only(api: Site) -> None:
    tenant = await make_token(api.dsn, "tenant-admin", [DOMAIN])
    reader = await make_token(api.dsn, "all-but-admin", None, ALL_SCOPES - {Scope.ADMIN})
    admin = await make_token(api.dsn, "whole-admin", None, {Scope.ADMIN})
    await until_ready(api, database="ok", mail="ok")

    found = {}
    for name, headers in (
        ("nobody", {"Authorization": ""}), ("tenant", {"Authorization": f"Bearer {tenant}"}), ("reader", {"Authorization": f"Bearer {reader}"}),
        ("admin", {"Authorization": f"Bearer {admin}"}), ("static", {}),
    ):  # fmt: skip
        async with api.client.get("/readyz", headers=headers) as answer:
            assert answer.status == 200
            found[name] = await answer.json()

    states = {name: {"state": check["state"]} for name, check in found["admin"]["checks"].items()}
    for name in ("nobody", "tenant", "reader"):
        assert found[name] == {"status": found["admin"]["status"], "checks": states}
    async with api.client.get("/readyz", headers={"Authorization": f"Bearer {admin}x"}) as answer:
        assert answer.status == 401
    for name in ("admin", "static"):
        assert found[name]["checks"]["recordings"]["detail"].startswith(str(api.switch.recordings))
        assert found[name]["checks"]["database"]["milliseconds"] >= 0


async def test_the_mail_server_is_asked_once_and_without_a_login(database: str, tmp_path: Path) -> None:
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    async with ScriptedMail(extensions=("AUTH PLAIN",)) as server:
        try:
            await site.open(smtp_port=server.port, smtp_username="u", smtp_password="s3cr3t")
            for _ in range(3):
                asking = await asyncio.gather(*(ready(site) for _ in range(10)))
                assert {checks["mail"] for _, checks in asking} == {"ok"}
                await asyncio.sleep(1.05)  # the answers of the other checks are kept for a second
        finally:
            await site.close()

    assert server.connections == 1
    assert [command.split()[0] for command in server.commands] == ["EHLO", "QUIT"]


async def test_the_front_leads_to_the_docs(api: Site) -> None:
    async with aiohttp.ClientSession(api.client._base_url) as nobody:
        for method in ("GET", "HEAD"):
            async with nobody.request(method, "/", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/docs")
        async with nobody.get("/") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        async with nobody.post("/") as answer:
            assert answer.status in (401, 405)


async def test_docs_and_metrics_can_be_switched_off(database: str, tmp_path: Path) -> None:
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    try:
        await site.open(docs=False, metrics=False)
        async with aiohttp.ClientSession(site.client._base_url) as nobody:
            async with nobody.get("/", allow_redirects=False) as answer:
                assert (answer.status, answer.content_type) == (404, "application/problem+json")
            for path in ("/docs", "/docs/rapidoc-min.js", "/openapi.json", "/metrics"):
                async with nobody.get(path) as answer:
                    assert answer.status == 401  # as any path that no route has
                async with site.client.get(path) as answer:
                    assert (answer.status, answer.content_type) == (404, "application/problem+json")
            async with nobody.get("/readyz") as answer:
                assert answer.status == 200
    finally:
        await site.close()


async def test_metrics_tell_of_recordings_without_a_row_and_need_no_token(api: Site) -> None:
    async with api.client.get("/metrics", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        lines = (await answer.text()).splitlines()

    assert "# TYPE voicemail_recordings_without_row gauge" in lines
    assert "voicemail_recordings_without_row 0.0" in lines
