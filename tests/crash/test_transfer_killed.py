"""A move that is killed -9 between any two steps: the message is in its mailbox or in the other one, and there once.

A copy takes the first steps of a move.
"""

import json
from pathlib import Path

from tests.support import killed_transfer
from tests.support.children import run_script


async def test_killed_before_any_step_a_message_is_somewhere_and_never_twice(database: str, tmp_path: Path) -> None:
    status, output = await run_script(killed_transfer.__file__, database, str(tmp_path), "move", "copies")

    rounds = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    assert status == 0
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert len(rounds) > 15
    for each in rounds:
        found, made = each["found"], each["made"]
        assert found["whole"], each
        assert found["whole"] == found["rows"], each
        wanted = ["102"] if made["asked"] else ["101"]
        assert made["rows"] == made["whole"] == wanted, each
        assert made["files"] == wanted, each
    assert rounds[-1]["made"]["asked"] == 1
