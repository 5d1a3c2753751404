"""A PBX for every end-to-end test: with the stand-in switch, and with a real FreeSWITCH if there is one."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.pbx import Site, Switch, stand_in
from tests.support.real_switch import RealSwitch

FREESWITCH = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.real_switch)])
def switch(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Switch:
    """The switch of a site, not started."""
    if request.param == "real":
        if not FREESWITCH:
            pytest.skip("no FreeSWITCH here: FREESWITCH_BIN is not set and there is no `freeswitch` on PATH")
        return RealSwitch(database, tmp_path)
    return stand_in(database, tmp_path)


@pytest.fixture
async def site(database: str, tmp_path: Path, switch: Switch) -> AsyncIterator[Site]:
    """A PBX that runs."""
    site = Site(database, tmp_path, switch)
    try:
        await site.open()
        yield site
    finally:
        await site.close()
