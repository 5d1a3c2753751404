"""Somebody who dials into a mailbox and gives PINs, on the stand-in and on a real FreeSWITCH, and what became of each guess."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from app.sandbox.phone_calls import TRIES
from app.sandbox.switch import StandInSwitch
from tests.support.plain_client import Event, PlainClient

CHECK = "originate {ignore_early_media=false}loopback/app=playback:silence_stream://-1 '&voicemail(check default lab.local %s)'"
ANSWERS = 15.0  # seconds in which the switch says what a PIN was
# What the switch reads of a PIN's row is noted here with the moment of every change; for a test's own eyes.
WATCH = """
CREATE TABLE prefs_seen (username text, password text, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION prefs_seen() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO prefs_seen (username, password) VALUES (NEW.username, NEW.password); RETURN NULL; END$$;
CREATE TRIGGER prefs_seen AFTER INSERT OR UPDATE ON voicemail_prefs FOR EACH ROW EXECUTE FUNCTION prefs_seen();
"""


@dataclass
class Guess:
    """One PIN that was given. ``began``: before the switch read what to compare it with; seconds since 1970."""

    pin: str
    began: float
    right: bool


@dataclass
class Guesser:
    """Calls a mailbox again and again."""

    switch: Any
    extension: str
    dials: float = 0.02  # seconds that a PIN takes on the stand-in; on the real switch it is about 0.6
    guesses: list[Guess] = field(default_factory=list)

    async def call(self, *pins: str) -> list[bool]:
        """One call with up to three PINs, until one is right; whether each was."""
        assert len(pins) <= TRIES
        made = await (self._stand_in(pins) if isinstance(self.switch, StandInSwitch) else self._real(pins))
        self.guesses += made
        return [guess.right for guess in made]

    async def _stand_in(self, pins: tuple[str, ...]) -> list[Guess]:
        call, made = self.switch.phone_call(), []
        for pin in pins:
            began = time.time()
            await call.dial(self.extension)
            await asyncio.sleep(self.dials)
            made.append(Guess(pin, began, await call.give(pin)))
            if made[-1].right:
                break
        return made

    async def _real(self, pins: tuple[str, ...]) -> list[Guess]:
        made: list[Guess] = []
        async with await PlainClient.connect(self.switch.port, self.switch.password) as client:
            await client.command("event plain CUSTOM vm::maintenance")
            began = time.time()
            answer = await client.api(CHECK % self.extension)
            assert answer.startswith("+OK "), answer
            uuid = answer.removeprefix("+OK ").strip()

            def told() -> list[Event]:
                return [event for event in client.events if event.name == "authentication" and event["Unique-ID"] == uuid]

            for number, pin in enumerate(pins, 1):
                await client.api(f"uuid_recv_dtmf {uuid} {pin}#")
                await client.until(lambda _, number=number: len(told()) >= number, ANSWERS)  # type: ignore[misc]
                made.append(Guess(pin, began, told()[-1]["VM-Auth-Result"] == "success"))
                # The switch reads the PIN of the next try after this event.
                began = int(told()[-1]["Event-Date-Timestamp"]) / 1e6
                if made[-1].right:
                    break
            with suppress(AssertionError):
                await client.api(f"uuid_kill {uuid}")
        return made


def how_many_tested(guesses: list[Guess], locks: list[tuple[float, float]]) -> int:
    """How many guesses were, or may have been, compared with the true PIN: all that did not begin while a lock was written.

    ``locks``: from when until when voicemail_prefs held the PIN of a lock.
    """
    return sum(not any(start <= guess.began < end for start, end in locks) for guess in guesses)
