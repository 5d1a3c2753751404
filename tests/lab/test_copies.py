"""Carbon copies on a real FreeSWITCH: each repeats the call's uuid in another mailbox, and none goes with the message it copies."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
COPIES = [str(2000 + number) for number in range(25)]
CALLS = 4
OTHERS = 4000  # users that make each look into the directory, and so each copy, slower


@pytest.fixture
async def site(database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """The lab's switch; whoever leaves a message for 1000 leaves a copy of it for each of COPIES."""
    configuration = tmp_path / "conf"
    shutil.copytree(CONFIGURATION, configuration)
    (configuration / "directory/lab.xml").unlink()
    example = (configuration / "examples/users_of_your_own.xml").read_text()
    begin, _, rest = example.partition("<users>")
    end = rest.rpartition("</users>")[2]
    fragment = next(line for line in example.splitlines() if "<X-PRE-PROCESS" in line)
    copies = ",".join(f"{extension}@lab.local" for extension in COPIES)
    others = "\n".join(f'<user id="{each}"><params><param name="vm-enabled" value="true"/></params></user>' for each in (
        *COPIES, *(str(100000 + number) for number in range(OTHERS))
    ))  # fmt: skip
    own = f'<user id="1000">\n<params>\n{fragment}\n<param name="vm-cc" value="{copies}"/>\n</params>\n</user>'
    (configuration / "directory/users.xml").write_text(f"{begin}<users>\n{own}\n{others}\n</users>{end}")
    site = Site(database, tmp_path, RealSwitch(database, tmp_path, configuration=configuration))
    try:
        await site.open(directory_format="fragments")
        yield site
    finally:
        await site.close()


async def test_no_copy_is_lost_when_its_message_is_removed_and_mwi_goes_out(site: Site) -> None:
    switch: Any = site.switch
    assert (await site.create("1000", local_after_email=False))["directory"]["state"] == "applied"
    database = await asyncpg.connect(site.dsn)
    async with await PlainClient.connect(switch.port, switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")

        calls = [await switch.leave_message("1000") for _ in range(CALLS)]
        await site.mail.wait_for(CALLS, timeout=20)
        async with asyncio.timeout(30):
            while await database.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username <> '1000'") < CALLS * len(COPIES):
                await asyncio.sleep(0.1)
        # By now every copy is made: the service need not wait longer for them.
        await database.execute("UPDATE voicemail.message SET seen_at = now() - interval '1 hour'")
        await database.execute("UPDATE voicemail.removal SET next_try_at = now()")
        await database.execute("UPDATE voicemail.pgqueuer SET execute_after = now() WHERE entrypoint = 'remove'")
        for call in calls:
            await site.until(f"/v1/voicemail/message/{call.uuid}/notification", recording={"state": "deleted", "detail": ""})
        await phone.until(lambda client: _account(client, "1000")[-1:] == ["no"], 20)

    rows = await database.fetch("SELECT username, uuid, file_path FROM voicemail_msgs")
    await database.close()
    assert sorted({row["username"] for row in rows}) == COPIES
    assert len(rows) == CALLS * len(COPIES)
    assert {row["uuid"] for row in rows} == {call.uuid for call in calls}
    assert all(Path(row["file_path"]).stat().st_size > 1000 for row in rows)
    assert not any(call.path.exists() for call in calls)


def _account(phone: PlainClient, extension: str) -> list[str]:
    return [event["MWI-Messages-Waiting"] for event in phone.events if event["MWI-Message-Account"] == f"{extension}@lab.local"]
