"""Counts failed logins over calls, locks mailboxes where there were too many, and unlocks them when the time is over.

Every copy of the service hears every event and each counts once. What was counted is in the table, so any copy goes on where
another was killed. An event that no copy heard, because none was connected to the switch, is a guess that was not counted.
"""

import time
from collections import deque

import structlog

from app.database.pool import Connection, Pool
from app.errors import VoicemailError
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.lockout import store
from app.mailboxes.lockout.hearing import login_of
from app.mailboxes.lockout.locks import MailboxLocks
from app.mailboxes.lockout.model import LockoutPolicy, Login
from app.mailboxes.pins.phone import PhonePins
from app.switch.esl.reply import Event

log = structlog.get_logger(__name__)

_EVERY = 2.0  # seconds; for locks that are over, and for what another copy counted and did not lock
_RETRIES = Retries(first=0.2, longest=5.0)
_MOST_WAITING = 10_000  # logins while the database is away; the oldest are worth least
_PRUNE_EVERY = 60.0  # seconds
_MOST_AT_ONCE = 200  # logins in one transaction


class LoginGuard:
    """Runs in every copy of the service. Each step may be repeated, by any of them."""

    def __init__(
        self, *, pool: Pool, policy: LockoutPolicy, locks: MailboxLocks, phone: PhonePins, batches: DirectoryBatches
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._locks = locks
        self._phone = phone
        self._batches = batches
        self._waiting: deque[Login] = deque(maxlen=_MOST_WAITING)
        self._pruned_at = float("-inf")
        self._loop = Loop("login_guard", self.step, every=_EVERY, retries=_RETRIES)

    def hear(self, event: Event) -> None:
        """Count the login that the event tells of, if it does."""
        login = login_of(event)
        if login is not None and self._policy.on:
            self._waiting.append(login)
            self._loop.wake()

    async def note(self, login: Login) -> None:
        """Count a login to a mailbox that was not by phone, before its answer is given. Raises ``DatabaseUnavailable``."""
        if self._policy.on:
            async with self._pool.acquire() as connection, connection.transaction():
                await _note(connection, login)
            self._loop.wake()

    async def run(self) -> None:
        """Count, lock and unlock, until cancelled."""
        await self._loop.run()

    async def step(self) -> None:
        """Count what was heard, lock what is to be locked and unlock what is over."""
        await self._note_waiting()
        async with self._pool.acquire() as connection:
            over = await store.over(connection, self._policy) if self._policy.on else []
        for address in over:
            if await self._locks.lock(address):
                self._batches.wake()
                try:
                    await self._phone.write_lock(address)
                except VoicemailError as error:
                    # Whatever it is, the other mailboxes wait. The directory holds the lock as soon as the switch has read it.
                    log.warning("lock_not_in_voicemail_prefs", extension=address.extension, detail=error.detail)
        async with self._pool.acquire() as connection:
            due = await store.due(connection, early=not self._policy.on)
        if [address for address in due if await self._locks.end(address, early=not self._policy.on)]:
            self._batches.wake()
        await self._prune()

    async def _note_waiting(self) -> None:
        while some := [self._waiting[index] for index in range(min(len(self._waiting), _MOST_AT_ONCE))]:
            async with self._pool.acquire() as connection, connection.transaction():
                for login in some:
                    await _note(connection, login)
            for login in some:
                if self._waiting and self._waiting[0] is login:  # else the deque was full and let it go
                    self._waiting.popleft()

    async def _prune(self) -> None:
        if time.monotonic() - self._pruned_at > _PRUNE_EVERY:
            self._pruned_at = time.monotonic()
            async with self._pool.acquire() as connection:
                await store.prune(connection, float(max(2 * self._policy.window, 3600)))


async def _note(connection: Connection, login: Login) -> None:
    if not login.success:
        await store.note_failure(connection, login, time.monotonic() - login.heard)
    elif login.call:
        # A success forgives its own call alone: whoever guesses in other calls gains nothing when the owner dials in.
        await store.forgive(connection, login)
