"""The lab's configuration on a real FreeSWITCH: it starts as it stands, takes a message and lets its owner in."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import asyncpg
import pytest

from tests.support.pbx import Site
from tests.support.plain_client import PlainClient
from tests.support.real_switch import CONFIGURATION, RealSwitch

FREESWITCH = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")
pytestmark = [
    pytest.mark.real_switch,
    pytest.mark.skipif(not FREESWITCH, reason="no FreeSWITCH here: FREESWITCH_BIN is not set and none is on PATH"),
]
# mod_voicemail looks for its tables before it creates them.
HARMLESS = re.compile(
    r"\S+ \S+ \S+ \[ERR\] mod_pgsql\.c:\d+ Error executing query:\s+"
    r'ERROR:  (relation|table) "voicemail_(msgs|prefs)" does not exist'
)


@pytest.fixture
async def real(postgres: str, tmp_path: Path) -> AsyncIterator[RealSwitch]:
    """A switch on a database that nothing has been in."""
    admin = await asyncpg.connect(postgres)
    await admin.execute("CREATE DATABASE lab")
    switch = RealSwitch(f"{postgres.rpartition('/')[0]}/lab", tmp_path)
    try:
        await switch.start()
        yield switch
    finally:
        await switch.stop()
        await admin.execute("DROP DATABASE lab WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def site(database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """The switch with the service."""
    site = Site(database, tmp_path, RealSwitch(database, tmp_path))
    try:
        await site.open()
        yield site
    finally:
        await site.close()


async def dial(switch: RealSwitch, number: str, keys: str) -> None:
    """Call a number of the lab's dialplan and press keys, a pause before each group of them."""
    async with await PlainClient.connect(switch.port, switch.password) as client:
        call = (await client.api(f"originate loopback/{number}/lab &park()")).removeprefix("+OK ").strip()
        for group in keys.split():
            await asyncio.sleep(2.5)
            assert (await client.api(f"uuid_send_dtmf {call} {group}")).startswith("+OK"), f"the call ended before {group}"
        await asyncio.sleep(2.5)
        await client.api(f"uuid_kill {call}")


async def test_it_starts_without_errors_and_with_every_module(real: RealSwitch) -> None:
    loads = ElementTree.parse(CONFIGURATION / "autoload_configs/modules.conf.xml").iter("load")
    modules = [element.get("module") for element in loads]

    async with await PlainClient.connect(real.port, real.password) as client:
        missing = [name for name in modules if await client.api(f"module_exists {name}") != "true"]
        profiles = await client.api("sofia status")

    assert len(modules) > 10
    assert missing == []
    assert "RUNNING" in profiles
    log = HARMLESS.sub("", real.log.read_text())
    assert not re.search(r"\[(ERR|CRIT|ALERT)\]", log), log


async def test_it_creates_its_tables_in_public(real: RealSwitch) -> None:
    connection = await asyncpg.connect(real._dsn)
    tables = await connection.fetch("SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'voicemail%' ORDER BY 2")
    await connection.close()

    assert [tuple(row) for row in tables] == [("public", "voicemail_msgs"), ("public", "voicemail_prefs")]


async def test_the_event_socket_listens_on_loopback_alone(real: RealSwitch) -> None:
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()

    addresses = re.findall(rf"^\s*\d+: ([0-9A-F]+):{real.port:04X} \S+ 0A", listening, re.M)

    assert addresses == ["0100007F"]


async def test_it_stops_within_seconds(real: RealSwitch) -> None:
    process = real._process
    assert process is not None

    async with asyncio.timeout(15):
        await real.stop()

    assert process.returncode == 0


async def test_a_call_to_the_dialplan_leaves_a_message_that_is_mailed(site: Site) -> None:
    mailbox = await site.create("101")
    assert mailbox["directory"]["state"] == "applied"

    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        call = (await client.api("originate loopback/101/lab &playback(tone_stream://L=99;%(1000,0,440))")).split()[-1]
        await asyncio.sleep(6)
        await client.api(f"uuid_kill {call}")

    await site.mail.wait_for(1, timeout=15)
    page = await site.get("/v1/voicemail/message?extension=101")
    assert page["total"] == 1
    whole = await site.get(f"/v1/voicemail/message/{page['data'][0]['id']}")
    assert whole["audio"]["duration"] >= 1


async def test_the_lamp_goes_on_with_a_message_and_out_when_it_is_deleted_after_its_mail(site: Site) -> None:
    switch: Any = site.switch
    await site.create("101", local_after_email=False)
    async with await PlainClient.connect(switch.port, switch.password) as client:
        await client.command("event plain MESSAGE_WAITING")
        left = await switch.leave_message("101")
        async with asyncio.timeout(2):
            while (await site.get("/v1/voicemail/message?extension=101"))["total"] == 0 and not site.mail.messages:
                await asyncio.sleep(0.05)

        def lamp() -> list[str]:
            return [event["MWI-Messages-Waiting"] for event in client.events if event["MWI-Message-Account"] == "101@lab.local"]

        await client.until(lambda _client: lamp()[-1:] == ["no"] and "yes" in lamp(), 15)

    assert len(site.mail.messages) == 1
    assert not left.path.exists()
    assert (await site.get("/v1/voicemail/message?extension=101"))["total"] == 0


async def test_a_pin_changed_by_phone_is_the_one_the_api_tells_and_the_only_one_that_works(site: Site) -> None:
    switch: Any = site.switch
    await site.create("101", password="4321")

    # The PIN, 5 for the settings, 6 for a new PIN, and the new PIN.
    await dial(switch, "*98101", "4321# 5 6 8765#")

    await site.until("/v1/voicemail/101", password="8765", directory={"state": "applied", "detail": ""})
    async with await PlainClient.connect(switch.port, switch.password) as client:
        logins = [await client.api(f"vm_fsdb_auth_login default lab.local 101 {pin}") for pin in ("8765", "4321")]
        assert await client.api("user_data 101@lab.local param vm-password") == "8765"
    assert logins == ["-OK", "-ERR"]


async def test_a_pin_changed_by_the_api_is_the_only_one_that_works_by_phone(site: Site) -> None:
    switch: Any = site.switch
    await site.create("101", password="4321")
    await dial(switch, "*98101", "4321# 5 6 8765#")
    await site.until("/v1/voicemail/101", password="8765")

    async with site.client.put("/v1/voicemail/101", json={"password": "2468", "enabled": True}) as answer:
        assert answer.status == 200
    await site.until("/v1/voicemail/101", password="2468", directory={"state": "applied", "detail": ""})

    async with await PlainClient.connect(switch.port, switch.password) as client:
        logins = [await client.api(f"vm_fsdb_auth_login default lab.local 101 {pin}") for pin in ("2468", "8765", "4321")]
    assert logins == ["-OK", "-ERR", "-ERR"]


async def test_a_message_deleted_by_phone_is_gone_from_the_api(site: Site) -> None:
    switch: Any = site.switch
    await site.create("101", password="4321")
    left = await switch.leave_message("101")
    await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="sent")

    # The PIN, 1 for new messages, and 7 to delete the first.
    await dial(switch, "*98101", "4321# 1 7")

    async with asyncio.timeout(15):
        while (await site.get("/v1/voicemail/message?extension=101"))["total"]:
            await asyncio.sleep(0.1)
    assert not left.path.exists()
