"""``voicemail rekey`` is killed -9 again and again at any moment: every PIN opens and is the one that was set."""

import asyncio
import os
import random
import sys

from app.database.pool import Pool
from app.mailboxes.pins.cipher import PinCipher
from tests.support.pbx import CHECKOUT
from tests.support.rekeying import NEW, OLD, make_mailboxes, opened, rekey, same

PINS, KILLS = 6000, 6


async def test_a_rotation_killed_at_any_moment_loses_no_pin(database: str, pool: Pool) -> None:
    pins = await make_mailboxes(pool, PinCipher(OLD), PINS, first=100_000)
    chance, both = random.Random(10), PinCipher(NEW, OLD)
    cut_off = 0

    for _ in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.rekeying", database,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begins\n"
        await asyncio.sleep(chance.uniform(0.0, 0.12))
        if process.returncode is None:
            process.kill()
        cut_off += await process.wait() != 0
        assert same(await opened(pool, both), pins)
        if not cut_off:  # it was too quick: from the start again
            await rekey(pool, OLD, NEW)

    assert cut_off
    assert (await rekey(pool, NEW, OLD)).complete
    assert same(await opened(pool, PinCipher(NEW)), pins)
