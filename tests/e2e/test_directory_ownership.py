"""A wrong setting costs no mailbox, what others wrote stays, and what somebody edits is mended: on both switches."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from app.mailboxes.directory import watch
from app.service import open_service
from tests.support.databases import Databases
from tests.support.pbx import DOMAIN, PATIENCE, TOKEN, Site, Switch, voicemail
from tests.support.plain_client import PlainClient

PINS = {"101": "4321", "102": "a b<&\"'--", "*98#": "98"}
Snapshot = dict[str, tuple[bytes, int, int]]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the folder come every second."""
    monkeypatch.setattr(watch, "EVERY", 1.0)
    monkeypatch.setattr(watch, "EVERY_IN_TROUBLE", 1.0)


@pytest.fixture
async def pbx(database: str, tmp_path: Path, switch: Switch) -> AsyncIterator[Site]:
    """A switch and a mail server; ``serving`` starts the service, with this or that setting."""
    site = Site(database, tmp_path, switch)
    await switch.start()
    await site.mail.start()
    try:
        yield site
    finally:
        await site.mail.stop()
        await switch.stop()


@pytest.fixture
async def empty(databases: Databases) -> AsyncIterator[str]:
    """A database in which the service never was."""
    dsn = await databases.lend()
    try:
        yield dsn
    finally:
        await databases.take_back(dsn)


@asynccontextmanager
async def serving(site: Site, **settings: Any) -> AsyncIterator[None]:
    """The service on this site."""
    async with open_service(site.settings(**settings)) as service:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(service.url, headers=headers) as site.client:
            yield


def files(site: Site) -> Snapshot:
    """Every file of the folder: content, inode and time."""
    found = {}
    for path in site.switch.directory.iterdir():
        status = path.stat()
        found[path.name] = (path.read_bytes(), status.st_ino, status.st_mtime_ns)
    return found


async def directory_check(site: Site) -> dict[str, str]:
    """What /readyz says of the directory."""
    async with site.client.get("/readyz") as answer:
        check: dict[str, str] = (await answer.json())["checks"]["directory"]
        return check


async def until_directory(site: Site, state: str, *words: str) -> str:
    """Wait for a state of the directory in /readyz, whose detail has these words."""
    check: dict[str, str] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while check.get("state") != state or not all(word in check["detail"] for word in words):
                await asyncio.sleep(0.1)
                check = await directory_check(site)
            return check["detail"]
    pytest.fail(f"directory was never {state} with {words}: {check}")


async def answered(site: Site, extension: str, parameter: str = "vm-password") -> str:
    """What the switch answers for a mailbox."""
    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        return await client.api(f"user_data {extension}@{DOMAIN} param {parameter}")


async def until_answered(site: Site, extension: str, value: str) -> None:
    """Wait until the switch answers with this PIN."""
    found = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while (found := await answered(site, extension)) != value:
                await asyncio.sleep(0.1)
    assert found == value


@asynccontextmanager
async def asking(site: Site) -> AsyncIterator[None]:
    """Ask the switch for every mailbox again and again; each answer must be right."""
    over = asyncio.Event()

    async def ask() -> list[tuple[str, str]]:
        wrong = []
        async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
            while not over.is_set():
                for extension, pin in PINS.items():
                    if (found := await client.api(f"user_data {extension}@{DOMAIN} param vm-password")) != pin:
                        wrong.append((extension, found))
                await asyncio.sleep(0.05)
        return wrong

    answers = asyncio.ensure_future(ask())
    try:
        yield
    finally:
        over.set()
        wrong = await asyncio.wait_for(answers, PATIENCE)
    assert wrong == []


async def adopt(site: Site, *arguments: str, **settings: Any) -> tuple[int, str]:
    """The command, and what it printed; no PIN is in it."""
    status, output, errors = await voicemail(
        "mailbox", "adopt", *arguments, environment=site.environment(**settings), folder=site.folder
    )
    assert "Traceback" not in errors, errors
    for pin in PINS.values():
        assert f"\t{pin}" not in output
    assert "4321" not in output + errors
    return status, output


async def made(site: Site, **settings: Any) -> Snapshot:
    """The files of mailboxes that a service made, which then stopped."""
    async with serving(site, **settings):
        for extension, pin in PINS.items():
            mailbox = await site.create(extension, password=pin, enabled=extension != "102")
            assert mailbox["directory"] == {"state": "applied", "detail": ""}
        await until_directory(site, "ok")
    return files(site)


async def test_an_empty_database_removes_no_mailbox_and_adopts_them_while_the_switch_answers(pbx: Site, empty: str) -> None:
    before = await made(pbx)
    lost = {"database_url": empty, "switch_database_url": pbx.dsn}
    async with asking(pbx), serving(pbx, **lost):
        detail = await until_directory(pbx, "failed", "3 mailbox files", "voicemail mailbox adopt")
        for setting in ("VOICEMAIL_DATABASE_URL", "VOICEMAIL_DOMAIN", "VOICEMAIL_DIRECTORY_PATH"):
            assert setting in detail
        refused = [await pbx.create(extension, password="999") for extension in ("101", "103")]
        assert [mailbox["directory"]["state"] for mailbox in refused] == ["failed"] * 2
        assert all("another installation" in mailbox["directory"]["detail"] for mailbox in refused)
        for mailbox in refused:
            async with pbx.client.delete(f"/v1/voicemail/{mailbox['id']}") as answer:
                assert answer.status == 200
        assert files(pbx) == before

        status, output = await adopt(pbx, **lost)
        assert (status, len(output.splitlines())) == (0, 4)
        assert "voicemail-101.xml\t101\tenabled\ttech@example.com" in output
        assert "voicemail-102.xml\t102\tdisabled" in output
        assert (await pbx.get("/v1/voicemail"))["total"] == 0
        assert files(pbx) == before

        status, output = await adopt(pbx, "--yes", **lost)
        assert (status, "3 mailboxes are adopted" in output) == (0, True)
        for extension, pin in PINS.items():
            wanted = {"password": pin, "directory": {"state": "applied", "detail": ""}, "mail_to": "tech@example.com"}
            key = extension.replace("#", "%23")
            assert (await pbx.until(f"/v1/voicemail/{key}", **wanted))["enabled"] is (extension != "102")
        await until_directory(pbx, "ok")
        status, output = await adopt(pbx, **lost)
        assert (status, output) == (0, "there is nothing to adopt\n")
    after = files(pbx)
    assert after.keys() == before.keys()
    assert all(after[name][0] != before[name][0] for name in before)
    async with serving(pbx):
        await until_directory(pbx, "failed", "another installation")
        assert files(pbx) == after


async def test_a_misspelt_domain_removes_no_mailbox_and_is_told(pbx: Site) -> None:
    before = await made(pbx)

    async with serving(pbx, domain="lab.lcal"):
        await until_directory(pbx, "failed", f"belongs to domain {DOMAIN}, and VOICEMAIL_DOMAIN is lab.lcal")
        status, output = await adopt(pbx, "--yes", domain="lab.lcal")
        assert status == 1
        assert "left alone" in output
        await asyncio.sleep(1)
        assert files(pbx) == before

    async with serving(pbx):
        await until_directory(pbx, "ok")
        assert files(pbx) == before


async def test_files_without_a_mark_are_left_and_can_be_adopted(pbx: Site, empty: str) -> None:
    await made(pbx)
    for path in pbx.switch.directory.iterdir():
        path.write_bytes(re.sub(rb"(?m)^.*<!--.*-->\n", b"", path.read_bytes()))
    before = files(pbx)
    lost = {"database_url": empty, "switch_database_url": pbx.dsn}

    async with serving(pbx, **lost):
        await until_directory(pbx, "failed", "has no mark")
        assert files(pbx) == before
        assert (await adopt(pbx, "--yes", **lost))[0] == 0
        await until_directory(pbx, "ok")
        audited = (await pbx.get("/v1/audit?action=mailbox.adopt"))["data"]

    assert {row["extension"] for row in audited} == set(PINS)
    assert {row["actor"] for row in audited} == {"command"}
    assert all(b"<!-- voicemail installation=" in content for content, *_ in files(pbx).values())


async def test_a_database_from_an_older_backup_removes_no_mailbox(pbx: Site) -> None:
    before = await made(pbx)
    connection = await asyncpg.connect(pbx.dsn)
    await connection.execute("DELETE FROM voicemail.mailbox WHERE extension = '101'")
    await connection.execute("DELETE FROM voicemail.directory_entry WHERE extension = '101'")
    await connection.close()

    async with serving(pbx):
        await until_directory(pbx, "failed", "1 mailbox files of mailboxes that this database does not know", "voicemail-101.xml")
        assert files(pbx) == before
        # The others go on.
        async with pbx.client.put("/v1/voicemail/102", json={"password": "8765", "enabled": True}) as answer:
            assert answer.status == 200
        await until_answered(pbx, "102", "8765")
        assert (await adopt(pbx, "--yes"))[0] == 0
        await until_directory(pbx, "ok")
        assert (await pbx.get("/v1/voicemail/101"))["password"] == "4321"


async def test_a_removal_that_was_cut_off_is_ended_at_the_next_start(pbx: Site) -> None:
    await made(pbx)
    connection = await asyncpg.connect(pbx.dsn)
    await connection.execute("DELETE FROM voicemail.mailbox WHERE extension = '101'")
    await connection.execute(
        "UPDATE voicemail.directory_entry SET state = 'pending', revision = revision + 1 WHERE extension = '101'"
    )
    await connection.close()

    async with serving(pbx):
        await until_answered(pbx, "101", "-ERR no reply\n")
        await until_directory(pbx, "ok")

    assert not (pbx.switch.directory / "voicemail-101.xml").exists()


@pytest.mark.parametrize("what", ["edited", "edited, mark and all", "removed", "emptied", "a link"])
async def test_a_file_that_somebody_changed_is_soon_as_the_database_says(pbx: Site, what: str) -> None:
    await made(pbx)
    path = pbx.switch.directory / "voicemail-101.xml"

    async with serving(pbx):
        await until_directory(pbx, "ok")
        right = path.read_bytes()
        if what == "removed":
            path.unlink()
        elif what == "emptied":
            path.write_bytes(b"")
        elif what == "a link":
            other = pbx.folder / "other.xml"
            other.write_bytes(right.replace(b"4321", b"6666"))
            path.unlink()
            path.symlink_to(other)
        else:
            edited = right.replace(b'"4321"', b'"6666"')
            path.write_bytes(edited if what == "edited" else re.sub(rb"(?m)^.*<!--.*-->\n", b"", edited))
        async with await PlainClient.connect(pbx.switch.port, pbx.switch.password) as client:
            assert await client.api("reloadxml") == "+OK [Success]\n"

        async with asyncio.timeout(PATIENCE):
            while not path.exists() or path.is_symlink() or path.read_bytes() != right:
                await asyncio.sleep(0.05)
        await until_answered(pbx, "101", "4321")
        await until_directory(pbx, "ok")
        await pbx.until("/v1/voicemail/101", directory={"state": "applied", "detail": ""})


async def test_a_file_that_another_installation_put_in_the_place_of_ours_stays_and_the_mailbox_says_so(pbx: Site) -> None:
    await made(pbx)
    path = pbx.switch.directory / "voicemail-101.xml"

    async with serving(pbx):
        await until_directory(pbx, "ok")
        other = re.sub(rb"installation=[0-9a-f]{32}", b"installation=" + b"5" * 32, path.read_bytes())
        path.write_bytes(other)

        mailbox = await pbx.until("/v1/voicemail/101", password="4321")
        async with asyncio.timeout(PATIENCE):
            while mailbox["directory"]["state"] != "failed":
                await asyncio.sleep(0.1)
                mailbox = await pbx.get("/v1/voicemail/101")
        assert "belongs to another installation, 55555555…" in mailbox["directory"]["detail"]
        await until_directory(pbx, "failed", "1 mailbox files not of this installation")
        assert path.read_bytes() == other

        status, output = await adopt(pbx, "--yes")
        assert (status, "a mailbox in the database already" in output) == (0, True)
        await pbx.until("/v1/voicemail/101", directory={"state": "applied", "detail": ""})
        await until_directory(pbx, "ok")


HOSTILE = {
    "21": (b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n<include>\n<user id="21"/>\n</include>\n', "document type"),
    "22": (b'<include>\n<X-PRE-PROCESS cmd="exec" data="id"/>\n</include>\n', "expands or includes"),
    "23": (b'<include>\n<user id="24">\n<params>\n<param name="vm-password" value="1"/>\n</params>\n</user>\n</include>\n', "its name"),
    "25": (b'<include>\n<user id="25">\n<params>\n<param name="password" value="sip"/>\n</params>\n</user>\n</include>\n', "would lose"),
    "26": (b'<include>\n<user id="26">\n<params>\n<param name="vm-password" value="1&#10;2"/>\n</params>\n</user>\n</include>\n', "printable"),
    "27": (b'<include>\n<user id="27">\n<params>\n', "no XML"),
    "29": (
        b'<include>\n<user id="29">\n<params>\n<param name="vm-password" value="77"/>\n<param name="vm-mailto" value="a@b.example"/>\n'
        b"</params>\n</user>\n</include>\n",
        "may only go to addresses at good.example",
    ),
    "28": (b'<include>\n<user id="28">\n<params>\n<param name="vm-password" value="77"/>\n</params>\n</user>\n</include>\n', ""),
}  # fmt: skip


async def test_hostile_files_are_listed_with_a_reason_and_left_alone(pbx: Site) -> None:
    await made(pbx)
    connection = await asyncpg.connect(pbx.dsn)
    await connection.execute("UPDATE voicemail.domain SET mail_domains = '{good.example}'")
    await connection.close()
    for extension, (content, _) in HOSTILE.items():
        (pbx.switch.directory / f"voicemail-{extension}.xml").write_bytes(content)
    before = files(pbx)

    status, output = await adopt(pbx, "--yes")

    assert status == 1
    lines = dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)
    for extension, (_, reason) in HOSTILE.items():
        line = lines[f"voicemail-{extension}.xml"]
        assert (reason in line and "left alone: " in line) if reason else line.startswith("28\tenabled\tno mail")
    assert files(pbx) == before
