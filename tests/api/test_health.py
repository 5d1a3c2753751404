"""/healthz and /readyz: what is away is named, and the rest goes on."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from pbx import PATIENCE, Site, stand_in

from app.database.embedded import EmbeddedPostgres


async def ready(site: Site) -> tuple[int, dict[str, str]]:
    """The status of /readyz and the state of each check."""
    async with aiohttp.ClientSession(site.client._base_url) as nobody, nobody.get("/readyz") as answer:
        checks = (await answer.json())["checks"]
        assert all(check["detail"] for check in checks.values())
        return answer.status, {name: check["state"] for name, check in checks.items()}


async def until_ready(site: Site, **wanted: str) -> None:
    """Wait until these checks have these states, and the status that follows from them all."""
    found: tuple[int, dict[str, str]] = (0, {})
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await ready(site)
                if wanted.items() <= found[1].items() and found[0] == (503 if "failed" in found[1].values() else 200):
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
