"""Applies the table to the switch in batches: write the files, reload once, read the users back, note the results.

``voicemail.directory_entry`` is the queue: a row that is not applied is its mailbox's one job. ``wake`` is a hint, and the clock
is enough. While the switch is away nothing is tried, so there are no failed tries to repeat.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import SwitchUnavailable, Unavailable
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.mailboxes.directory import batch_store
from app.mailboxes.directory.batch_store import Outcome
from app.mailboxes.directory.store import Entry
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.model import DirectoryState, DirectoryStatus, Mailbox, join_addresses
from app.mailboxes.pins.cipher import PinCipher, PinUnreadable
from app.mailboxes.pins.phone import PhonePins
from app.switch.directory.domains import DomainFolders
from app.switch.directory.model import DirectoryRefused, DirectoryUser
from app.switch.esl.event_socket import EventSocket

log = structlog.get_logger(__name__)

_MOST = 5000  # entries for one reload: more would keep what comes meanwhile waiting too long
_CHUNK = 250  # entries for one transaction, each with a lock of PostgreSQL's; and for one window of questions to the switch
_LOOK_EVERY = 1.0  # seconds; for what another copy of the service, or a command, wrote
_AFTER_TROUBLE = Retries(first=2.0, longest=2.0)
_BURST, _GATHER = 3, 0.25  # a batch of so many is followed by others: so many seconds make one reload of them
_CLAIM_IS_OLD = 150.0  # seconds; longer than the longest reload: whoever holds the claim has stopped in the middle
_RETRIES = Retries(first=5.0, longest=300.0)  # of one entry
_SHOWN = 300.0  # seconds between two equal lines in the log

_Item = TypeVar("_Item")

PENDING, APPLIED, FAILED = DirectoryStatus.PENDING, DirectoryStatus.APPLIED, DirectoryStatus.FAILED


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt for an entry: the user that was written, or the reason why it failed."""

    entry: Entry
    address: MailboxAddress
    user: DirectoryUser | None  # None: a removal, or a PIN that cannot be read
    obstacle: DirectoryRefused | PinUnreadable | None = None

    @property
    def removal(self) -> bool:
        return self.user is None and self.obstacle is None


def directory_user(cipher: PinCipher, mailbox: Mailbox) -> DirectoryUser:
    """A mailbox as the switch must know it: a locked one with a PIN that nobody can guess. Raises ``PinUnreadable``."""
    pin = cipher.lock_pin(mailbox.address, mailbox.lock.number) if mailbox.lock else cipher.open(mailbox.id, mailbox.sealed_pin)
    return DirectoryUser(mailbox.address, pin, join_addresses(mailbox.mail_to), mailbox.enabled)


class DirectoryBatches:
    """Runs in every copy of the service; of those that reach the switch one works at a time. Every step may be repeated."""

    def __init__(
        self,
        *,
        pool: Pool,
        cipher: PinCipher,
        folders: DomainFolders,
        phone: PhonePins,
        switch: EventSocket,
        waiters: Waiters,
    ) -> None:
        self._pool = pool
        self._only = folders.only
        self._cipher = cipher
        self._folders = folders
        self._phone = phone
        self._switch = switch
        self._waiters = waiters
        self._woken = asyncio.Event()
        self._loop = Loop("directory_batches", self._work_off, every=None, wait=self._pause, retries=_AFTER_TROUBLE)
        self._refused_claim_at: float | None = None
        self._reloading = False
        self._burst = False
        self._told: tuple[str, float] = ("", 0.0)

    @property
    def possible(self) -> bool:
        """Whether the switch is connected now."""
        return self._switch.connected

    def wake(self) -> None:
        """Something is due, or the switch is back."""
        self._woken.set()

    def reason(self, domain: Domain) -> str:
        """Why what is pending in a domain is not applied yet."""
        if not self._folders.serves(domain):
            return self._folders.refusal(domain)
        if not self.possible:
            return f"the switch is not connected ({self._switch.error}); it is told as soon as it is back"
        if self._reloading:
            return "the switch is reading its directory again, which takes it longer the more users it has"
        return "it is not this mailbox's turn yet"

    async def run(self) -> None:
        """Work on what is due whenever there is something and the switch is there, until cancelled."""
        await self._loop.run()

    async def _work_off(self) -> None:
        while self.possible and await self._step():
            continue

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_EVERY):
                await self._woken.wait()
        except TimeoutError:
            self._burst = False
        self._woken.clear()
        if self._burst:
            await asyncio.sleep(_GATHER)

    async def _step(self) -> bool:
        """One batch, unless another copy of the service is at work; False: there is nothing more to do now."""
        async with self._pool.acquire() as connection:
            due = await batch_store.due(connection, self._only, limit=_MOST)
            if not due:
                return False
            claimed = await batch_store.claim(connection, self._only)
            if not claimed and not self._may_go_on():
                return False
            try:
                # Another copy may have done it until the claim was ours.
                due = await batch_store.due(connection, self._only, limit=_MOST)
                await self._carry_out(due)
            finally:
                if claimed and not connection.is_closed():
                    await self._release(connection)
        self._burst = len(due) >= _BURST
        return len(due) == _MOST or (bool(due) and not self._burst)

    async def _release(self, connection: Connection) -> None:
        try:
            await batch_store.release(connection, self._only)
        except BaseException:
            connection.terminate()  # the claim must not outlive the batch
            raise

    def _may_go_on(self) -> bool:
        """Whether to work without the claim: the claim only saves work, and its holder may hang."""
        now = time.monotonic()
        if self._refused_claim_at is None:
            self._refused_claim_at = now
        if now - self._refused_claim_at < _CLAIM_IS_OLD:
            return False
        self._refused_claim_at = None
        return True

    async def _carry_out(self, due: Sequence[MailboxAddress]) -> None:
        self._refused_claim_at = None
        began = time.monotonic()
        works: list[_Work] = []
        for domain, addresses in _by_domain(due, lambda address: address.domain):
            works += await self._lay_down(domain, [address.extension for address in addresses])
        laid_down = time.monotonic()
        trouble = await self._reload() if works else None
        reloaded = time.monotonic()
        left: list[tuple[MailboxAddress, DirectoryState]] = []
        for domain, some in _by_domain(works, lambda work: work.address.domain):
            waiters = await self._outcomes_of(domain, some, trouble)
            await self._settle(domain, waiters)
            left += [
                (MailboxAddress(outcome.entry.extension, domain), outcome.directory)
                for outcome in waiters
                if outcome.directory.state is not APPLIED
            ]
        self._tell(left)
        if len(works) >= _CHUNK:
            log.info(
                "directory_batch",
                entries=len(works),
                not_applied=len(left),
                files_took=round(laid_down - began, 1),
                reload_took=round(reloaded - laid_down, 1),
                check_took=round(time.monotonic() - reloaded, 1),
            )

    async def _lay_down(self, domain: Domain, extensions: Sequence[str]) -> list[_Work]:
        """Write the files under the extensions' locks, so that a file is never older than the table."""
        async with self._pool.acquire() as connection, connection.transaction():
            await batch_store.lock(connection, domain, extensions)
            found = await batch_store.find(connection, domain, extensions)
            works = [self._work(domain, entry, mailbox) for entry, mailbox in found]
            well = [work for work in works if work.obstacle is None]
            users = [work.user for work in well if work.user]
            claims = {work.address.extension: work.entry.claim for work in well}
            refused = await self._folders.of(domain).lay_down(users, [work.address for work in well if not work.user], claims)
        return [
            _Work(work.entry, work.address, work.user, work.obstacle or refused.get(work.address.extension)) for work in works
        ]

    def _work(self, domain: Domain, entry: Entry, mailbox: Mailbox | None) -> _Work:
        address = MailboxAddress(Extension(entry.extension), domain)
        try:
            return _Work(entry, address, directory_user(self._cipher, mailbox) if mailbox else None)
        except PinUnreadable as error:
            return _Work(entry, address, None, error)

    async def _reload(self) -> DirectoryState | None:
        """Have the switch read the files; returns the reason if the whole batch failed, or None."""
        self._reloading = True
        try:
            await self._folders.renew()
        except SwitchUnavailable as error:
            return DirectoryState(PENDING, error.detail)
        except DirectoryRefused as error:
            return DirectoryState(FAILED, error.detail)
        finally:
            self._reloading = False
        return None

    async def _outcomes_of(self, domain: Domain, works: Sequence[_Work], trouble: DirectoryState | None) -> list[Outcome]:
        well = [work for work in works if work.obstacle is None]
        state = await self._put_pins_in_step(domain, well)
        refused: dict[Extension, DirectoryRefused] = {}
        if trouble is None:
            try:
                gone = [work.address for work in well if not work.user]
                refused.update(await self._folders.of(domain).check([work.user for work in well if work.user], gone))
            except SwitchUnavailable as error:
                trouble = DirectoryState(PENDING, error.detail)
        waiters = []
        for work in works:
            refusal = work.obstacle or refused.get(work.address.extension)
            found = trouble or (state if work.user else DirectoryState(APPLIED))
            if refusal is not None:
                found = DirectoryState(FAILED, refusal.detail)
            pause = _RETRIES.delay(work.entry.attempts + 1)
            waiters.append(Outcome(work.entry, found, 0.0 if found.state is APPLIED else pause, removal=work.removal))
        return waiters

    async def _put_pins_in_step(self, domain: Domain, works: Sequence[_Work]) -> DirectoryState:
        try:
            await self._phone.put_in_step(domain, [(work.entry, work.user.pin) for work in works if work.user])
        except Unavailable as error:
            # The directory goes on without it: the new PIN works on the phone, and the old one goes when this can be done.
            return DirectoryState(PENDING, f"the PIN in voicemail_prefs is not changed yet: {error.detail}")
        return DirectoryState(APPLIED)

    async def _settle(self, domain: Domain, waiters: Sequence[Outcome]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            gone = [outcome.entry for outcome in waiters if outcome.removal and outcome.directory.state is APPLIED]
            # Forgotten first: of a mailbox that was made anew meanwhile the entry has another revision, and stays.
            await batch_store.forget(connection, domain, gone)
            await batch_store.settle(connection, domain, waiters)
        for outcome in waiters:
            self._waiters.tell(MailboxAddress(outcome.entry.extension, domain))

    def _tell(self, left: Sequence[tuple[MailboxAddress, DirectoryState]]) -> None:
        """Log one line for a batch, and do not repeat an equal line."""
        if not left:
            return
        mailbox, first = next(((mailbox, state) for mailbox, state in left if state.state is FAILED), left[0])
        line, now = f"{first.state.value} {first.detail}", time.monotonic()
        if line == self._told[0] and now - self._told[1] < _SHOWN:
            return
        self._told = (line, now)
        log.warning(
            "directory_not_applied", entries=len(left), mailbox=str(mailbox), state=first.state.value, detail=first.detail
        )


def _by_domain(items: Sequence[_Item], domain_of: Callable[[_Item], Domain]) -> Iterator[tuple[Domain, Sequence[_Item]]]:
    """Chunks, each of one domain."""
    domains: dict[Domain, list[_Item]] = {}
    for item in items:
        domains.setdefault(domain_of(item), []).append(item)
    for domain, found in domains.items():
        for start in range(0, len(found), _CHUNK):
            yield domain, found[start : start + _CHUNK]
