"""``voicemail rekey`` is killed -9 again and again at any moment: every PIN opens and is the one that was set."""

import asyncio
import os
import sys

from app.database.pool import Pool
from app.mailboxes.pins.cipher import PinCipher
from tests.support.pbx import CHECKOUT
from tests.support.rekeying import NEW, OLD, make_mailboxes, opened, same

PINS, KILLS = 8000, 6


async def test_a_rotation_killed_at_any_moment_loses_no_pin(database: str, pool: Pool) -> None:
    pins = await make_mailboxes(pool, PinCipher(OLD), PINS, first=100_000)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.rekeying", database, str(KILLS),
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0
    cut_off, left = (int(word) for word in output.split()[-2:])
    assert (cut_off > 0, left) == (True, 0)
    assert same(await opened(pool, PinCipher(NEW)), pins)
