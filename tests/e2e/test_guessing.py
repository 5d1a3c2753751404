"""Somebody guesses a PIN by phone, call after call: on the stand-in and on a real FreeSWITCH only a few guesses are tested at all."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.mailboxes.pins.locked import is_lock_pin
from app.sandbox.switch import StandInSwitch
from tests.support.guessing import WATCH, Guesser, how_many_tested
from tests.support.pbx import DOMAIN, PATIENCE, Site, Switch, voicemail

PIN = "8642"
GUESSES = int(os.environ.get("GUESSES", "45"))  # 1000 is the whole figure, and takes minutes
CALLERS = 3  # at the same time
MOST_TESTED = 30


@pytest.fixture
async def site(database: str, tmp_path: Path, switch: Switch) -> AsyncIterator[Site]:
    """A PBX that runs, with every change of a PIN in voicemail_prefs noted."""
    site = Site(database, tmp_path, switch)
    try:
        await site.open()
        connection = await asyncpg.connect(database)
        await connection.execute(WATCH)
        await connection.close()
        yield site
    finally:
        await site.close()


async def locked_times(dsn: str) -> list[tuple[float, float]]:
    """From when until when voicemail_prefs held the PIN of a lock."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT password, extract(epoch FROM at)::float8 AS at FROM prefs_seen ORDER BY at")
    await connection.close()
    changes = [(row["at"], is_lock_pin(row["password"] or "")) for row in rows] + [(float("inf"), False)]
    return [(at, until) for (at, locked), (until, _) in itertools.pairwise(changes) if locked]


async def test_many_guesses_over_many_calls_test_few_pins(site: Site, tmp_path: Path) -> None:
    await site.create("101", password=PIN)
    guesser = Guesser(site.switch, "101", dials=0.3)
    pins = [f"{number:04}" for number in range(GUESSES)]
    calls = iter([pins[start : start + 3] for start in range(0, GUESSES, 3)])

    async def caller() -> None:
        for some in calls:
            await guesser.call(*some)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))

    found = how_many_tested(guesser.guesses, await locked_times(site.dsn))
    print(f"\n{len(guesser.guesses)} guesses over {-(-GUESSES // 3)} calls, {found} tested")
    assert len(guesser.guesses) == GUESSES
    assert not any(guess.right for guess in guesser.guesses)
    assert 10 <= found <= MOST_TESTED
    # Its own PIN opens it as little as any other, by either way in; messages are still taken.
    assert (await site.get("/v1/voicemail/101"))["locked_until"]
    assert await guesser.call(PIN) == [False]
    assert (await site.switch.leave_message("101")).stored

    if isinstance(site.switch, StandInSwitch):
        command = await voicemail("mailbox", "unlock", "101", environment=site.environment(), folder=tmp_path)
        assert command[:2] == (0, f"101@{DOMAIN} is unlocked; the running service tells the switch\n")
    else:
        async with site.client.delete("/v1/voicemail/101/lock") as answer:
            assert answer.status == 200
    await site.until("/v1/voicemail/101", locked_until=None, directory={"state": "applied", "detail": ""}, seconds=PATIENCE)
    assert await guesser.call("0000", PIN) == [False, True]
