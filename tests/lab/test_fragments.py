"""A PBX with users of its own: each includes its mailbox's parameters, and keeps everything else."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.pbx import Site
from tests.support.plain_client import PlainClient
from tests.support.real_switch import CONFIGURATION, RealSwitch

FREESWITCH = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")
pytestmark = [
    pytest.mark.real_switch,
    pytest.mark.skipif(not FREESWITCH, reason="no FreeSWITCH here: FREESWITCH_BIN is not set and none is on PATH"),
]


@pytest.fixture
async def site(database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """The lab's switch with the example's directory in place of its own."""
    configuration = tmp_path / "conf"
    shutil.copytree(CONFIGURATION, configuration)
    (configuration / "directory/lab.xml").unlink()
    shutil.move(configuration / "examples/users_of_your_own.xml", configuration / "directory")
    site = Site(database, tmp_path, RealSwitch(database, tmp_path, configuration=configuration))
    try:
        await site.open(directory_format="fragments")
        yield site
    finally:
        await site.close()


async def asked(site: Site, *commands: str) -> list[str]:
    """What the switch answers."""
    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        return [await client.api(command) for command in commands]


async def test_a_user_s_own_parameters_stay_and_its_mailbox_comes_and_goes(site: Site) -> None:
    mailbox = await site.create("1000", password="4321")
    assert mailbox["directory"] == {"state": "applied", "detail": ""}
    parameters = ("password", "vm-password", "vm-mailto", "vm-enabled")
    commands = [f"user_data 1000@lab.local param {name}" for name in parameters]
    assert await asked(site, *commands) == ["the SIP password of 1000", "4321", "tech@example.com", "true"]
    left = await site.switch.leave_message("1000")
    await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="sent")

    async with site.client.put("/v1/voicemail/1000", json={"password": "8765", "enabled": True}) as answer:
        assert answer.status == 200
    assert (await asked(site, *commands))[:2] == ["the SIP password of 1000", "8765"]

    async with site.client.delete("/v1/voicemail/1000") as answer:
        assert answer.status == 200
    own, pin, *_ = await asked(site, *commands)
    assert own == "the SIP password of 1000"
    assert pin not in ("4321", "8765")
    assert list(site.switch.directory.iterdir()) == []


async def test_a_user_that_does_not_include_its_fragment_and_one_that_is_not_there_fail_and_say_so(site: Site) -> None:
    without = await site.create("1001")
    nobody = await site.create("1002")

    assert without["directory"]["state"] == nobody["directory"]["state"] == "failed"
    assert "does this user include voicemail-1001.xml?" in without["directory"]["detail"]
    assert "voicemail-1002.xml" in nobody["directory"]["detail"]
