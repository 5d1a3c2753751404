"""A deletion and a restoration that are killed -9 between any two steps: the message is in its mailbox or in the trash."""

import json
from pathlib import Path

import pytest

from tests.support import killed_trash
from tests.support.children import run_script


@pytest.mark.parametrize(("deed", "kind"), [("delete", "links"), ("bulk", "links"), ("restore", "copies")])
async def test_killed_before_any_step_a_message_is_somewhere(database: str, tmp_path: Path, deed: str, kind: str) -> None:
    status, output = await run_script(killed_trash.__file__, database, str(tmp_path), deed, kind)

    rounds = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    assert status == 0
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert len(rounds) > 15
    for each in rounds:
        found, made = each["found"], each["made"]
        assert found["mailbox"] or found["trash"], each
        if made["row"]:  # nothing was written down before the end came, or it was put back
            assert (made["mailbox"], made["file"]) == (True, True), each
        else:
            assert (made["trash"], made["entry"], made["file"]) == (True, True, False), each
        assert made["row"] is not made["entry"], each
    assert rounds[-1]["made"]["entry"] is (deed != "restore")
