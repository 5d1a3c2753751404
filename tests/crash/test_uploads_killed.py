"""kill -9 before every step of a change of greetings, and of a message being left by the API."""

import json
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.sandbox.tables import StandInTables
from tests.support import killed_uploads
from tests.support.children import run_script
from tests.support.two_domains import put_mailbox


@pytest.fixture
async def deaths(database: str, tmp_path: Path) -> list[dict[str, Any]]:
    """What was left by each death."""
    tables = StandInTables(database)
    await tables.open()
    await tables.close()
    connection = await asyncpg.connect(database)
    await put_mailbox(connection, "101", domain="lab.local")
    await connection.close()
    status, output = await run_script(killed_uploads.__file__, database, str(tmp_path))
    assert status == 0, output.decode()[-2000:]
    return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]


async def test_no_death_leaves_a_path_to_nothing_or_half_a_message(deaths: list[dict[str, Any]]) -> None:
    for death in deaths:
        assert death["status"] in (0, -signal.SIGKILL), death
        expected = {"upload": ("old", "new"), "other_slot": ("old", "new"), "delete": ("old", "default"), "leave": ("old",)}
        assert death["played"] in expected[death["work"]], death
        assert death["rows"] <= 1, death
        assert death["orphans"] == death["missing"] == 0, death
        assert set(death["callers"]) <= {"Alice"}, death
        if death["work"] == "leave" and death["answered"]:
            assert (death["before"], death["rows"]) == (1, 1), death
    print("deaths:", len(deaths))
    for work in ("upload", "other_slot", "delete", "leave"):
        of_work = [death for death in deaths if death["work"] == work]
        assert len(of_work) > 5
        assert of_work[-1]["status"] == 0
    assert [death["played"] for death in deaths if death["answered"]] == ["new", "new", "default", "old"]
    assert {death["rows"] for death in deaths if death["work"] == "leave"} == {0, 1}
