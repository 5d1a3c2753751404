"""/healthz and /readyz: what is away is named, and the rest goes on."""

import asyncio
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from app.embedded.postgres import EmbeddedPostgres
from app.http.health import OneAtATime
from tests.support.pbx import PATIENCE, Site, stand_in


async def ready(site: Site) -> tuple[int, dict[str, str]]:
    """The status of /readyz and the state of each check."""
    async with aiohttp.ClientSession(site.client._base_url) as nobody, nobody.get("/readyz") as answer:
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
            await postgres.stop()

            await until_ready(site, database="failed", switch="ok")
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
        async with aiohttp.ClientSession(site.client._base_url) as nobody, nobody.get("/readyz") as answer:
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


async def test_metrics_tell_of_recordings_without_a_row_and_need_no_token(api: Site) -> None:
    async with api.client.get("/metrics", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        lines = (await answer.text()).splitlines()

    assert "# TYPE voicemail_recordings_without_row gauge" in lines
    assert "voicemail_recordings_without_row 0.0" in lines
