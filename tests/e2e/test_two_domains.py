"""The same extensions in two domains: two mailboxes each, in everything that becomes of them, on both switches."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.mailboxes.directory import watch
from app.mailboxes.pins import phone
from app.sandbox.mail import CaughtMail
from app.sandbox.switch import StandInSwitch
from app.service import open_service
from tests.support.databases import Databases
from tests.support.pbx import DOMAIN, PATIENCE, TOKEN, Site, Switch, voicemail
from tests.support.plain_client import PlainClient
from tests.support.twin import SECOND


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at folders and PINs come every half second."""
    monkeypatch.setattr(watch, "EVERY", 0.5)
    monkeypatch.setattr(watch, "EVERY_IN_TROUBLE", 0.5)
    monkeypatch.setattr(phone, "_EVERY", 0.5)


@pytest.fixture
async def pbx(database: str, tmp_path: Path, two_domains: Switch) -> AsyncIterator[Site]:
    """The switch and a mail server; ``serving`` starts the service."""
    site = Site(database, tmp_path, two_domains)
    await two_domains.start()
    await site.mail.start()
    try:
        yield site
    finally:
        await site.mail.stop()
        await two_domains.stop()


@asynccontextmanager
async def serving(site: Site, root: Path, **settings: Any) -> AsyncIterator[None]:
    """The service, with a folder for each domain, and the second domain."""
    settings = {"directory_path": root / "{domain}", **settings}
    async with open_service(site.settings(**settings)) as service:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(service.url, headers=headers) as site.client:
            async with site.client.post("/v1/domain", json={"name": SECOND}) as answer:
                assert answer.status in (201, 409)
            yield


async def asked(site: Site, command: str) -> str:
    """What the switch answers."""
    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        return await client.api(command)


async def pins(site: Site, extension: str = "101") -> dict[str, str]:
    """The PIN that the switch has for an extension in each domain; empty: no such user."""
    return {
        domain: await asked(site, f"user_data {extension}@{domain} param vm-password")
        if await asked(site, f"user_exists id {extension} {domain}") == "true"
        else ""
        for domain in (DOMAIN, SECOND)
    }


async def until_pins(site: Site, first: str, second: str) -> None:
    """Wait until the switch has these PINs for 101."""
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while found != {DOMAIN: first, SECOND: second}:
                await asyncio.sleep(0.1)
                found = await pins(site)
    except TimeoutError:
        pytest.fail(f"the switch never had {first} and {second}: {found}")


async def until_check(site: Site, state: str, *words: str) -> None:
    """Wait until /readyz says this of the directory."""
    check: dict[str, str] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while check.get("state") != state or not all(word in check["detail"] for word in words):
                await asyncio.sleep(0.2)
                async with site.client.get("/readyz") as answer:
                    check = (await answer.json())["checks"]["directory"]
    except TimeoutError:
        pytest.fail(f"directory was never {state} with {words}: {check}")


async def both(site: Site) -> tuple[dict[str, Any], dict[str, Any]]:
    """A mailbox 101 in each domain, both on the switch."""
    first, second = await site.create(password="1111"), await site.create(password="2222", domain=SECOND)
    assert first["directory"]["state"] == second["directory"]["state"] == "applied", (first, second)
    return first, second


async def test_create_put_patch_and_delete_touch_the_mailbox_of_one_domain_only(pbx: Site, root: Path) -> None:
    async with serving(pbx, root):
        first, second = await both(pbx)
        assert (first["domain"], second["domain"]) == (DOMAIN, SECOND)
        assert await pins(pbx) == {DOMAIN: "1111", SECOND: "2222"}
        assert (root / SECOND).stat().st_mode & 0o777 == 0o750

        async with pbx.client.put(
            "/v1/voicemail/101", params={"domain": SECOND}, json={"password": "3333", "enabled": True}
        ) as answer:
            assert (await answer.json())["directory"]["state"] == "applied"
        assert await pins(pbx) == {DOMAIN: "1111", SECOND: "3333"}

        async with pbx.client.patch("/v1/voicemail/101", json={"password": "4444"}) as answer:
            assert (await answer.json())["directory"]["state"] == "applied"
        assert await pins(pbx) == {DOMAIN: "4444", SECOND: "3333"}

        async with pbx.client.delete(f"/v1/voicemail/{second['id']}", params={"domain": SECOND}) as answer:
            assert (await answer.json())["directory"] == {"state": "applied", "detail": ""}
        assert await pins(pbx) == {DOMAIN: "4444", SECOND: ""}
        assert (await pbx.get("/v1/voicemail/101"))["id"] == first["id"]


async def test_a_pin_set_by_phone_is_that_of_one_domain(pbx: Site, root: Path) -> None:
    async with serving(pbx, root):
        await both(pbx)

        assert "OK" in await asked(pbx, f"vm_fsdb_pref_password_set default {SECOND} 101 9876")

        await until_pins(pbx, "1111", "9876")
        assert (await pbx.get("/v1/voicemail/101"))["password"] == "1111"
        assert (await pbx.get(f"/v1/voicemail/101?domain={SECOND}"))["password"] == "9876"


async def test_twenty_at_once_share_reloads_and_each_is_its_own(pbx: Site, root: Path) -> None:
    async with serving(pbx, root):
        names = [(str(200 + number), domain) for number in range(10) for domain in (DOMAIN, SECOND)]
        made = await asyncio.gather(*(pbx.create(name, password=f"{name}{len(domain)}", domain=domain) for name, domain in names))
        for mailbox in made:
            await pbx.until(
                f"/v1/voicemail/{mailbox['id']}?domain={mailbox['domain']}", directory={"state": "applied", "detail": ""}
            )

        for number in range(10):
            name = str(200 + number)
            assert await pins(pbx, name) == {DOMAIN: f"{name}{len(DOMAIN)}", SECOND: f"{name}{len(SECOND)}"}
        if isinstance(pbx.switch, StandInSwitch):
            assert pbx.switch.reloads < 20
        assert (await pbx.get("/v1/voicemail?domain=*"))["total"] == 20
        assert (await pbx.get("/v1/voicemail"))["total"] == (await pbx.get(f"/v1/voicemail?domain={SECOND}"))["total"] == 10


async def test_each_folder_is_watched_and_the_one_that_is_wrong_is_named(pbx: Site, root: Path) -> None:
    async with serving(pbx, root):
        await both(pbx)
        await until_check(pbx, "ok")

        (root / SECOND / "voicemail-101.xml").unlink()
        await until_pins(pbx, "1111", "2222")
        async with asyncio.timeout(PATIENCE):
            while not (root / SECOND / "voicemail-101.xml").exists():
                await asyncio.sleep(0.1)

        # A file of the first domain in the folder of the second is nobody's that is known there.
        shutil.copy(root / DOMAIN / "voicemail-101.xml", root / SECOND / "voicemail-102.xml")
        await until_check(pbx, "failed", f"{root / SECOND} holds 1 mailbox files", f"belongs to domain {DOMAIN}")
        status, output, _ = await voicemail(
            "doctor", environment=pbx.environment(directory_path=root / "{domain}"), folder=pbx.folder
        )
        assert status == 1
        wrong = next(line for line in output.splitlines() if f"directory files of {SECOND}" in line)
        assert f"{root / SECOND} holds 1 mailbox files" in wrong
        assert f"{root / DOMAIN} holds" not in output
        (root / SECOND / "voicemail-102.xml").unlink()
        await until_check(pbx, "ok")


async def test_a_folder_that_cannot_be_made_is_told_and_keeps_no_other_domain_from_the_switch(pbx: Site, root: Path) -> None:
    (root / SECOND).write_text("no folder")
    async with serving(pbx, root):
        first, second = await pbx.create(password="1111"), await pbx.create(password="2222", domain=SECOND)

        assert first["directory"]["state"] == "applied"
        assert second["directory"]["state"] == "failed"
        assert str(root / SECOND) in second["directory"]["detail"]
        await until_check(pbx, "failed", str(root / SECOND))

    (root / SECOND).unlink()
    async with serving(pbx, root):
        await until_pins(pbx, "1111", "2222")


async def test_the_mailboxes_of_both_domains_are_adopted_by_another_database(pbx: Site, root: Path, databases: Databases) -> None:
    async with serving(pbx, root):
        await both(pbx)
    empty = await databases.lend()
    try:
        settings = {"database_url": empty, "switch_database_url": pbx.dsn}
        environment = pbx.environment(directory_path=root / "{domain}", **settings)
        assert (await voicemail("domain", "create", SECOND, environment=environment, folder=pbx.folder))[0] == 0

        status, output, _ = await voicemail("mailbox", "adopt", "--yes", environment=environment, folder=pbx.folder)

        assert (status, "2 mailboxes are adopted" in output) == (0, True), output
        async with serving(pbx, root, **settings):
            await until_check(pbx, "ok")
            assert (await pbx.get("/v1/voicemail/101"))["password"] == "1111"
            assert (await pbx.get(f"/v1/voicemail/101?domain={SECOND}"))["password"] == "2222"
            await until_pins(pbx, "1111", "2222")
    finally:
        await databases.take_back(empty)


def audio_of(mail: CaughtMail) -> bytes:
    """The recording that a mail brings."""
    (attachment,) = mail.parsed.iter_attachments()
    content = attachment.get_content()
    assert isinstance(content, bytes)
    return content


async def messages(site: Site, domain: str) -> list[dict[str, Any]]:
    """What the API lists of 101 in a domain."""
    found: list[dict[str, Any]] = (await site.get(f"/v1/voicemail/message?extension=101&domain={domain}"))["data"]
    return found


async def waiting(site: Site, domain: str) -> str:
    """How many messages of 101 the switch itself counts in a domain: new, saved."""
    return await asked(site, f"vm_boxcount 101@{domain}|all")


async def test_calls_to_one_extension_in_two_domains_are_mailed_listed_and_removed_apart(pbx: Site, root: Path) -> None:
    async with serving(pbx, root):
        await pbx.create(password="1111", mail_to="first@example.com", local_after_email=True)
        await pbx.create(password="2222", mail_to="second@example.com", local_after_email=False, domain=SECOND)

        first = await pbx.switch.leave_message("101", caller_name="Alice", talking=1.0, domain=DOMAIN)
        recording = first.path.read_bytes()
        second = await pbx.switch.leave_message("101", caller_name="Bob", talking=1.5, domain=SECOND)

        await pbx.mail.wait_for(2, timeout=PATIENCE)
        mails = {mail.recipients: mail for mail in pbx.mail.messages}
        assert set(mails) == {("first@example.com",), ("second@example.com",)}
        assert "Alice" in mails["first@example.com",].parsed["Subject"]
        assert "Bob" in mails["second@example.com",].parsed["Subject"]
        assert audio_of(mails["first@example.com",]) == recording
        assert audio_of(mails["second@example.com",]).startswith(b"RIFF")

        async with asyncio.timeout(PATIENCE):
            while second.path.exists() or await messages(pbx, SECOND):
                await asyncio.sleep(0.05)
        (kept,) = await messages(pbx, DOMAIN)
        assert (kept["id"], kept["caller_id_name"]) == (first.uuid, "Alice")
        assert first.path.read_bytes() == recording
        assert [await waiting(pbx, domain) for domain in (DOMAIN, SECOND)] == ["1:0:0:0", "0:0:0:0"]
        async with pbx.client.get(kept["download_url"]) as download:
            assert await download.read() == recording
        assert (await pbx.get(f"/v1/voicemail/message/{first.uuid}"))["domain"] == DOMAIN
