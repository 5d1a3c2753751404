"""Kills a process before each step of a lock and of an unlock in turn, lets another go on, and prints a JSON line about each.

Run as ``python killed_lockout.py DSN DIRECTORY ESL_PORT ESL_PASSWORD lock|unlock EVERY``, with the checkout and its tests in
PYTHONPATH. ``EVERY``: 1 kills before each step, 2 before every second one, and so on.
A step is a statement to a database, a command to the switch, or a file of the directory that takes its place.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Pool, close_pool, open_pool
from app.mailboxes import store
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.lockout.guard import LoginGuard
from app.mailboxes.lockout.locks import MailboxLocks
from app.mailboxes.lockout.model import LockoutPolicy, Login, Source
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.phone import PhonePins
from app.switch.commands import user_data
from app.switch.directory.domains import DomainFolders
from app.switch.esl.event_socket import EventSocket
from app.switch.tables.prefs import VoicemailTables
from tests.support.killed_delivery import STATEMENTS, apart

PIN = "4321"
KEY = bytes(range(32))
INSTALLATION = "0" * 32
ADDRESS = MailboxAddress(Extension("101"), Domain("lab.local"))
USER_PIN = user_data(ADDRESS, "param", "vm-password")
POLICY = LockoutPolicy(attempts=3, window=3600, first=3600, longest=3600)


def die_before(number: int) -> None:
    """Kill this process before its next ``number``-th step."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(step: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return await step(*args, **kwargs)

        return call

    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, dying(getattr(asyncpg.Connection, name)))
    EventSocket.command = dying(EventSocket.command)  # type: ignore[method-assign]
    replace = os.replace

    def dying_replace(*args: Any, **kwargs: Any) -> None:
        count()
        replace(*args, **kwargs)

    os.replace = dying_replace
    os.rename = dying_replace


class Copy:
    """A copy of the service, as far as PINs go; its loops are turned by hand."""

    def __init__(self, pool: Pool, socket: EventSocket, directory: Path) -> None:
        self.pool, self.cipher, self.tables = pool, PinCipher(KEY), VoicemailTables(pool)
        folders = DomainFolders(directory, "users", socket, INSTALLATION, ADDRESS.domain)
        self.phone = PhonePins(pool, self.cipher, self.tables)
        self.batches = DirectoryBatches(
            pool=pool, cipher=self.cipher, folders=folders, phone=self.phone, switch=socket, waiters=Waiters()
        )
        locks = MailboxLocks(pool, POLICY)
        self.guard = LoginGuard(pool=pool, policy=POLICY, locks=locks, phone=self.phone, batches=self.batches)

    async def turn(self) -> None:
        """What the loops do when they wake."""
        await self.guard.step()
        await self.batches._work_off()
        await self.phone.sync()
        await self.batches._work_off()

    async def fail(self) -> None:
        """As many failed logins as lock the mailbox."""
        for number in range(POLICY.attempts):
            login = Login(f"{time.time()}/{number}", ADDRESS, False, Source.PHONE, f"call {number}", time.monotonic())
            await self.guard.note(login)

    async def due(self) -> None:
        """The lock's time is over."""
        await self.pool.execute("UPDATE voicemail.mailbox_lock SET locked_until = now() WHERE locked_until IS NOT NULL")

    async def look(self) -> dict[str, Any]:
        """What everybody has for PIN: the mailbox, voicemail_prefs, the directory."""
        async with self.pool.acquire() as connection:
            mailbox = await store.find(connection, ADDRESS.domain, ADDRESS.extension)
        assert mailbox
        reply = await self.batches._switch.command(USER_PIN)
        prefs = await self.tables.pins(ADDRESS)
        return {
            "locked": mailbox.lock is not None,
            "pin": self.cipher.open(mailbox.id, mailbox.sealed_pin),
            "switch": [*prefs, reply.value],
        }


class Site:
    """What the test has running."""

    def __init__(self, arguments: list[str]) -> None:
        self.dsn, directory, self.port, self.password, self.kind, every = arguments
        self.every = int(every)
        self.directory = Path(directory)

    async def in_a_copy(self, work: Callable[[Copy], Awaitable[Any]]) -> Any:
        """Work in a process of its own."""
        async with AsyncExitStack() as stack:
            pool = await open_pool(self.dsn, application_name="test")
            stack.push_async_callback(close_pool, pool)
            socket = EventSocket("127.0.0.1", int(self.port), self.password)
            stack.push_async_callback(socket.close)
            socket.start()
            assert await socket.wait_connected(10)
            return await work(Copy(pool, socket, self.directory))

    async def doomed(self, copy: Copy, number: int) -> None:
        """The lock or the unlock of a process that ends before a step."""
        await (copy.fail() if self.kind == "lock" else copy.due())
        die_before(number)
        await copy.turn()

    async def go_on(self, copy: Copy) -> dict[str, Any]:
        """What the next process finds, what it makes of it, and where all ends; then what the next round begins with."""
        told = {"found": await copy.look()}
        await copy.turn()
        told["made"] = await copy.look()
        await copy.due()
        await copy.turn()
        told["ended"] = await copy.look()
        if self.kind == "unlock":
            await copy.fail()
            await copy.turn()
        return told


def main(arguments: list[str]) -> None:
    """Kill before the first step and later ones, until one survives."""
    site = Site(arguments)

    async def prepare() -> None:
        await site.in_a_copy(site.go_on)

    apart(prepare)
    for number in range(1, 200, site.every):
        killed, _ = apart(lambda: site.in_a_copy(lambda copy: site.doomed(copy, number)))  # noqa: B023

        async def go_on() -> None:
            print("\n" + json.dumps(await site.in_a_copy(site.go_on)))

        _, text = apart(go_on)
        print(json.dumps({"step": number, "killed": killed, **json.loads(text.splitlines()[-1])}), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
