"""Thousands of mailboxes on their way to the switch: ``python -m benchmarks.directory``.

On the stand-in and, where FREESWITCH_BIN names one, on a real FreeSWITCH.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from app.embedded.postgres import EmbeddedPostgres
from app.logs import configure_logging
from app.sandbox.switch import StandInSwitch
from app.switch import commands
from app.switch.esl.event_socket import Event, EventSocket
from benchmarks.measures import say
from benchmarks.site import CHECKOUT, DOMAIN, Site, peer

CLIENTS = 50
PATIENCE = 600.0
STATES = "SELECT state, count(*) AS number FROM voicemail.directory_entry GROUP BY state"
USER = '<user id="{0}">\n<params>\n<param name="password" value="x{0}"/>\n<param name="vm-password" value="{0}"/>\n</params>\n</user>\n'


async def create(site: Site, first: int, number: int) -> float:
    """Create mailboxes, fifty at a time; how many a second."""
    left = iter(range(first, first + number))

    async def some() -> None:
        for extension in left:
            if await site.create(str(extension), mail_to="tech@example.com") != "pending":
                raise RuntimeError("applied while the switch is away")

    began = time.monotonic()
    await asyncio.gather(*(some() for _ in range(CLIENTS)))
    return number / (time.monotonic() - began)


async def until_applied(site: Site, number: int) -> float:
    """Seconds until the table says that the switch has so many mailboxes and nothing waits."""
    began = time.monotonic()
    async with site.database() as connection, asyncio.timeout(PATIENCE):
        while {row["state"]: row["number"] for row in await connection.fetch(STATES)} != {"applied": number}:
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def reload_seconds(switch: Any) -> float:
    """How long the switch takes for one reload."""
    socket = EventSocket("127.0.0.1", switch.port, switch.password)
    socket.start()
    try:
        await socket.wait_connected(10)
        began = time.monotonic()
        await socket.command(commands.reload_xml(), timeout=120)
        return time.monotonic() - began
    finally:
        await socket.close()


class Reloads:
    """Counts the switch's reloads by its events, whoever asks for them."""

    def __init__(self, switch: Any) -> None:
        self.number = 0
        self._socket = EventSocket("127.0.0.1", switch.port, switch.password, first_backoff=0.05, longest_backoff=0.1)
        self._socket.on_event(self._hear)
        self._socket.start()

    def _hear(self, event: Event) -> None:
        self.number += event.name == "RELOADXML"

    async def close(self) -> None:
        """Listen no more."""
        await self._socket.close()


async def outage(site: Site, number: int, *, aim: float) -> bool:
    """POSTs while the switch is away, and what follows when it is back; whether the aims were met."""
    async with site.database() as connection:
        before = await connection.fetchval("SELECT count(*) FROM voicemail.directory_entry")
    await site.switch.stop()
    await asyncio.sleep(0.5)
    rate = await create(site, 100_000 + before, number)
    async with site.database() as connection:
        jobs = await connection.fetchval("SELECT count(*) FROM voicemail.pgqueuer")
    reloads = Reloads(site.switch)
    await site.switch.start()
    seconds = await until_applied(site, before + number)
    await reloads.close()
    say(
        f"{number:,} POSTs with the switch away: {rate:.0f}/s (aim 200/s), {jobs} jobs; applied {seconds:.1f} s after it was back "
        f"(aim {aim:.0f} s), {number / seconds:.0f}/s, {reloads.number} reloads (aim 5); memory {site.memory():.0f} MiB"
    )
    return rate >= 200 and seconds <= aim and (reloads.number <= 5 or number > 5000)


async def beside_static_users(site: Site, number: int) -> bool:
    """One POST beside an operator's own users: what the answer says, and when the switch has it."""
    users = "".join(USER.format(500_000 + n) for n in range(number))
    (site.switch.directory / "000-static.xml").write_text(f"<include>\n{users}</include>\n")
    one = await reload_seconds(site.switch)
    async with site.database() as connection:
        before = await connection.fetchval("SELECT count(*) FROM voicemail.directory_entry")
    began = time.monotonic()
    body = {"extension": "99001", "password": "4321", "enabled": True}
    async with site.client.post("/v1/voicemail", json=body) as answer:
        state = (await answer.json())["data"]["directory"]
    answered = time.monotonic() - began
    await until_applied(site, before + 1)
    applied = time.monotonic() - began
    say(
        f"a POST beside {number:,} static users, {one:.2f} s a reload: answered after {answered:.2f} s "
        f"({state['state']}: {state['detail'] or '-'}), applied after {applied:.2f} s (aim {one + 1:.2f} s)"
    )
    return applied <= one + 1


async def measure(folder: Path, dsn: str, switch: Any, numbers: tuple[tuple[int, float], ...]) -> bool:
    """Everything on one switch."""
    well = True
    async with peer("mail") as mail:
        await switch.start()
        site = Site(folder, dsn, switch, mail)
        await site.start(domain=getattr(switch, "domain", "lab.local"))
        try:
            for number, aim in numbers:
                well = await outage(site, number, aim=aim) and well
            if sum(number for number, _ in numbers) <= 5000:  # else these are not the users that make a reload long
                well = await beside_static_users(site, 20_000) and well
        finally:
            await site.stop()
            await switch.stop()
    return well


async def main() -> int:
    """Returns 1 where an aim was missed."""
    configure_logging("error")
    well = True
    with tempfile.TemporaryDirectory(prefix="voicemail-bench-") as name:
        folder = Path(name)
        for part in ("recordings", "directory"):
            (folder / part).mkdir()
        async with EmbeddedPostgres(folder / "postgresql") as dsn:
            say("stand-in")
            switch = StandInSwitch(dsn, folder / "recordings", folder / "directory", DOMAIN)
            well = await measure(folder, dsn, switch, ((5000, 20.0),))
    if os.environ.get("FREESWITCH_BIN"):
        sys.path += [str(CHECKOUT / "tests" / "switch")]
        from tests.support.real_switch import RealSwitch  # noqa: PLC0415 - it is the tests' own

        for numbers in (((5000, 20.0),), ((20_000, 90.0),)):
            with tempfile.TemporaryDirectory(prefix="voicemail-bench-") as name:
                folder = Path(name)
                async with EmbeddedPostgres(folder / "postgresql") as dsn:
                    say("FreeSWITCH")
                    well = await measure(folder, dsn, RealSwitch(dsn, folder), numbers) and well
    say("every aim was met" if well else "an aim was missed")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
