"""``switch``: each test that asks for it runs against the stand-in, and against a real FreeSWITCH if there is one."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest

from tests.support.databases import Databases
from tests.support.switches_under_test import DOMAIN, SwitchUnderTest

FREESWITCH = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")


@pytest.fixture(scope="session")
async def switch_database(databases: Databases) -> AsyncIterator[str]:
    """The DSN of a database for a switch that lives as long as the run."""
    dsn = await databases.lend()
    try:
        yield dsn
    finally:
        await databases.take_back(dsn)


@pytest.fixture(scope="session", params=["sandbox", pytest.param("real", marks=pytest.mark.real_switch)])
async def running_switch(
    request: pytest.FixtureRequest, switch_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SwitchUnderTest]:
    """A switch, started once a run."""
    folder = tmp_path_factory.mktemp("switch")
    if request.param == "real":
        if not FREESWITCH:
            pytest.skip("no FreeSWITCH here: FREESWITCH_BIN is not set and there is no `freeswitch` on PATH")
        from tests.support.real_switch import RealSwitch

        real = RealSwitch(switch_database, folder)
        await real.start()
        try:
            yield SwitchUnderTest("real", real, switch_database, folder, real.password)
        finally:
            await real.stop()
        return
    from app.sandbox.switch import StandInSwitch

    for name in ("recordings", "directory"):
        (folder / name).mkdir()
    # As in the lab: a PIN set by phone is the only one.
    stand_in = StandInSwitch(switch_database, folder / "recordings", folder / "directory", DOMAIN, db_password_override=True)
    await stand_in.start()
    try:
        bench = SwitchUnderTest("sandbox", stand_in, switch_database, folder, "ClueCon")
        yield bench
    finally:
        await stand_in.stop()


@pytest.fixture
async def switch(running_switch: SwitchUnderTest) -> AsyncIterator[SwitchUnderTest]:
    """The switch with nothing in it but users 101 and 102, PIN 4321."""
    await running_switch.open()
    try:
        await running_switch.reset()
        yield running_switch
    finally:
        await running_switch.close()
