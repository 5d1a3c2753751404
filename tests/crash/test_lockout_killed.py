"""A lock or an unlock that is killed -9 between any two steps: the mailbox is locked with an end to it or not locked, with its PIN."""

import json
import os
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.locked import is_lock_pin
from tests.support import killed_lockout
from tests.support.children import run_script
from tests.support.killed_lockout import ADDRESS, KEY, PIN
from tests.support.pbx import stand_in

MAILBOX = "INSERT INTO voicemail.mailbox (id, domain, extension, pin_encrypted, enabled) VALUES ($1, $2, $3, $4, true)"
ENTRY = "INSERT INTO voicemail.directory_entry (domain, extension) VALUES ($1, $2)"
PREFS = "INSERT INTO voicemail_prefs VALUES ($1, $2, '', '', $3)"
# A round takes a second or more, so one run looks at every so manieth step; KILL_EVERY=1 looks at all of them.
EVERY = int(os.environ.get("KILL_EVERY", "15"))


@pytest.mark.parametrize(("kind", "steps"), [("lock", 20), ("unlock", 15)])
async def test_killed_before_any_step_no_pin_is_lost(database: str, tmp_path: Path, kind: str, steps: int) -> None:
    switch = stand_in(database, tmp_path)
    await switch.start()
    connection, mailbox = await asyncpg.connect(database), uuid4()
    await connection.execute(MAILBOX, mailbox, ADDRESS.domain, ADDRESS.extension, PinCipher(KEY).seal(mailbox, PIN))
    await connection.execute(ENTRY, ADDRESS.domain, ADDRESS.extension)
    await connection.execute(PREFS, ADDRESS.extension, ADDRESS.domain, PIN)
    await connection.close()
    try:
        status, output = await run_script(
            killed_lockout.__file__, database, str(switch.directory), str(switch.port), switch.password, kind, str(EVERY)
        )
    finally:
        await switch.stop()

    rounds = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    assert status == 0
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert len(rounds) * EVERY > steps
    for each in rounds:
        assert [each[when]["pin"] for when in ("found", "made", "ended")] == [PIN] * 3, each
        assert each["made"]["locked"] == (kind == "lock"), each
        assert all(is_lock_pin(pin) for pin in each["made"]["switch"]) == (kind == "lock"), each
        assert each["ended"] == {"locked": False, "pin": PIN, "switch": [PIN, PIN]}, each
    assert any(each["found"]["locked"] for each in rounds)
