"""An intake that is killed -9 anywhere loses no message, announces none twice, and never an old one."""

import json

import pytest

from app.database.pool import Pool
from tests.support import killed_intake
from tests.support.children import run_script


@pytest.mark.parametrize(("when", "messages"), [("first", 4), ("later", 7)])
async def test_killed_before_any_statement_the_next_one_does_the_rest(
    database: str, pool: Pool, when: str, messages: int
) -> None:
    await pool.execute("CREATE TABLE announced (id uuid PRIMARY KEY, file_path text)")

    status, output = await run_script(killed_intake.__file__, database, when)

    rounds = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    assert status == 0
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert len(rounds) > 8
    for each in rounds:
        assert sorted(each["announced"]) == sorted(each["news"]), each["statement"]
        assert each["ids"] == messages
