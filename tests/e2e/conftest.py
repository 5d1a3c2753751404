"""A PBX for every end-to-end test: with the stand-in switch, and with a real FreeSWITCH if there is one."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.sandbox.switch import StandInSwitch
from tests.support.pbx import DOMAIN, Site, Switch, stand_in
from tests.support.real_switch import CONFIGURATION, RealSwitch
from tests.support.twin import SECOND, TwinSite

FREESWITCH = os.environ.get("FREESWITCH_BIN") or shutil.which("freeswitch")
NO_FREESWITCH = "no FreeSWITCH here: FREESWITCH_BIN is not set and there is no `freeswitch` on PATH"


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.real_switch)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which switch a test is run with."""
    if request.param == "real" and not FREESWITCH:
        pytest.skip(NO_FREESWITCH)
    return str(request.param)


@pytest.fixture
def switch(kind: str, database: str, tmp_path: Path) -> Switch:
    """The switch of a site, not started."""
    return RealSwitch(database, tmp_path) if kind == "real" else stand_in(database, tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the domains' folders, in which there is none yet."""
    path = tmp_path / "directory"
    path.mkdir()
    return path


@pytest.fixture
def two_domains(kind: str, database: str, tmp_path: Path, root: Path) -> Switch:
    """A switch with two domains, not started."""
    if kind == "sandbox":
        (tmp_path / "recordings").mkdir()
        return StandInSwitch(database, tmp_path / "recordings", root / DOMAIN, DOMAIN, further={SECOND: root / SECOND})
    configuration = tmp_path / "conf"
    shutil.copytree(CONFIGURATION, configuration)
    (configuration / "directory/lab.xml").unlink()
    shutil.move(configuration / "examples/several_domains.xml", configuration / "directory")
    return RealSwitch(database, tmp_path, configuration=configuration)


@pytest.fixture
async def site(database: str, tmp_path: Path, switch: Switch) -> AsyncIterator[Site]:
    """A PBX that runs."""
    site = Site(database, tmp_path, switch)
    try:
        await site.open()
        yield site
    finally:
        await site.close()


@pytest.fixture
async def twin_site(database: str, tmp_path: Path, root: Path, two_domains: Switch) -> AsyncIterator[Site]:
    """A PBX that runs, with the same extensions in a second domain, which nothing may touch."""
    site = TwinSite(database, tmp_path, two_domains, root)
    try:
        await site.open()
        yield site
        await site.second_is_untouched()
    finally:
        await site.close()
