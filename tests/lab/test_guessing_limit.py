"""The lab's dialplan lets at most ten calls ask for a PIN at once: each that is under way when a mailbox is locked may test one more."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.support.plain_client import PlainClient
from tests.support.real_switch import RealSwitch

FREESWITCH = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")
pytestmark = [
    pytest.mark.real_switch,
    pytest.mark.skipif(not FREESWITCH, reason="no FreeSWITCH here: FREESWITCH_BIN is not set and none is on PATH"),
]
MOST = 10
USAGE = "limit_usage db voicemail check"


@pytest.fixture
async def switch(database: str, tmp_path: Path) -> RealSwitch:
    """The lab's switch, not started."""
    return RealSwitch(database, tmp_path)


async def test_more_calls_than_ten_are_refused_and_those_that_end_make_room(switch: RealSwitch) -> None:
    await switch.start()
    try:
        async with await PlainClient.connect(switch.port, switch.password) as client:

            async def until(usage: int) -> None:
                async with asyncio.timeout(10):
                    while int(await client.api(USAGE)) != usage:
                        await asyncio.sleep(0.1)

            for _ in range(MOST + 2):
                await client.api("originate loopback/*98/lab '&playback(silence_stream://-1)'")
            await until(MOST)
            await asyncio.sleep(1.0)
            calls = await client.api("show channels")

            assert calls.count(",voicemail,check default") == MOST
            await client.api("hupall")
            await until(0)
    finally:
        await switch.stop()
