"""Each noun of the command once as an operator runs it, imports included; the other tests fork from a process that has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pbx import CHECKOUT, Site, stand_in
from tests.support.programs import voicemail_from_scratch

# What takes long to load, and what commands do without it.
SERVERS = {"aiohttp", "gevent", "greenswitch", "pgqueuer", "prometheus_client", "aiosmtplib", "watchfiles"}
EVERYTHING = SERVERS | {"asyncio", "asyncpg", "pydantic", "structlog", "rich", "uvloop", "cryptography"}


@pytest.fixture
def offline(database: str, tmp_path: Path) -> Site:
    """A site that is not started: a database, and settings that name nothing that runs."""
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    site.switch.port = site.mail.port = 9
    return site


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("--version", 0, "voicemail 0."),
        ("migrate", 0, "the schema is up to date"),
        ("token create scripts --all-domains --all-scopes", 0, "vm_"),
        ("domain list", 0, "lab.local\tdefault"),
        ("mailbox adopt", 0, "there is nothing to adopt"),
        ("recording orphans", 0, "0 recordings without a row"),
        ("doctor", 1, "event socket"),
    ],
)
async def test_a_command_runs_from_nothing(offline: Site, arguments: str, status: int, said: str) -> None:
    found = await voicemail_from_scratch(*arguments.split(), environment=offline.environment(), folder=offline.folder)

    assert (found[0], said in found[1]) == (status, True), found
    assert "Traceback" not in found[2]


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        ("app.cli.main", EVERYTHING),
        ("app.offline", SERVERS | {"rich", "cryptography"}),
        ("app.service", {"rich", "email_validator"}),
    ],
)
def test_a_command_loads_only_what_it_needs(module: str, needless: set[str]) -> None:
    script = (
        f"import app.__main__, {module}, sys; print(*{{name.partition('.')[0] for name, found in sys.modules.items() if found}})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & needless == set()
