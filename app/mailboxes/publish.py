"""Making the switch agree with the table, one extension at a time: the job ``directory``."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.database.jobs import Jobs
from app.database.pool import Connection, Pool
from app.errors import SwitchUnavailable, Unavailable
from app.mailboxes import entries, store
from app.mailboxes.entries import Entry
from app.mailboxes.model import DirectoryState, DirectoryStatus, Mailbox, join_addresses
from app.mailboxes.phone import PhonePins
from app.mailboxes.pins import PinCipher, PinUnreadable
from app.mailboxes.waiting import Outcomes
from app.switch.directory import Directory, DirectoryRefused, DirectoryUser

log = structlog.get_logger(__name__)

ENTRYPOINT = "directory"
_AT_ONCE = 100  # so that a bulk change becomes a few reloads
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
_OVERDUE = 10.0  # seconds after which a job is taken for lost
_SWEEP = 5000

PENDING, APPLIED, FAILED = DirectoryStatus.PENDING, DirectoryStatus.APPLIED, DirectoryStatus.FAILED


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt: what was laid down for which entry, or what stood in the way."""

    address: MailboxAddress
    entry: Entry
    user: DirectoryUser | None  # None: a removal
    obstacle: DirectoryRefused | PinUnreadable | None = None


class DirectoryPublisher:
    """Brings mailboxes to the switch. Every step may be repeated, and any process may do it."""

    def __init__(
        self,
        *,
        pool: Pool,
        domain: Domain,
        cipher: PinCipher,
        directory: Directory,
        phone: PhonePins,
        jobs: Jobs,
        outcomes: Outcomes,
    ) -> None:
        self._pool = pool
        self._domain = domain
        self._cipher = cipher
        self._directory = directory
        self._phone = phone
        self._jobs = jobs
        self._outcomes = outcomes

    def register(self) -> None:
        """Let this process do the jobs."""
        self._jobs.register(ENTRYPOINT, self.publish, concurrency=_AT_ONCE)

    async def publish(self, extension: str) -> None:
        """One attempt to make the switch agree with the table for this extension; the outcome is written to its row."""
        address = MailboxAddress(Extension.parse(extension), self._domain)
        work = await self._lay_down(address)
        if work is not None:
            outcome = await self._outcome(work)
            await self._settle(work, outcome)
            self._outcomes.tell(extension)

    async def resume(self) -> None:
        """Try everything now that is not applied: the switch is back, or the service started."""
        async with self._pool.acquire() as connection, connection.transaction():
            waiting = await entries.due(connection, self._domain, within=2 * _LONGEST_PAUSE, limit=100_000)
            await self._enqueue(connection, waiting, "resume")
        if waiting:
            log.info("directory_resumed", entries=len(waiting))

    async def sweep(self) -> None:
        """Enqueue what should have been tried and was not: its job was lost."""
        async with self._pool.acquire() as connection, connection.transaction():
            overdue = await entries.due(connection, self._domain, within=-_OVERDUE, limit=_SWEEP)
            await self._enqueue(connection, overdue, "sweep")

    async def announce(self, connection: Connection, extensions: Sequence[str]) -> dict[str, int]:
        """Note in the caller's transaction that the switch must learn of these extensions; their new revisions."""
        revisions = await entries.raise_revisions(connection, self._domain, extensions)
        await self._jobs.enqueue_many(
            connection, ENTRYPOINT, [(extension, f"{extension}:{revision}", 0.0) for extension, revision in revisions.items()]
        )
        return revisions

    def readable(self, mailboxes: Sequence[Mailbox]) -> list[DirectoryUser]:
        """The mailboxes as the switch must know them, without those whose PIN cannot be read."""
        users = []
        for mailbox in mailboxes:
            with suppress(PinUnreadable):
                users.append(self._user(mailbox))
        return users

    async def _lay_down(self, address: MailboxAddress) -> _Work | None:
        """Under the extension's lock, so that what is laid down is never older than the table; None: nothing to do."""
        async with self._pool.acquire() as connection, connection.transaction():
            await entries.lock(connection, address)
            entry = await entries.find(connection, address)
            if entry is None or entry.directory.state is APPLIED:
                return None
            mailbox = await store.find(connection, address.domain, address.extension)
            try:
                user = self._user(mailbox) if mailbox else None
                await (self._directory.write(user, entry.claim) if user else self._directory.erase(address, entry.claim))
            except (DirectoryRefused, PinUnreadable) as error:
                return _Work(address, entry, None, error)
            return _Work(address, entry, user)

    async def _outcome(self, work: _Work) -> DirectoryState:
        try:
            if work.obstacle is not None:
                raise work.obstacle
            if work.user is None:
                await self._directory.confirm_gone(work.address)
                return DirectoryState(APPLIED)
            problem = await self._put_pin_in_step(work, work.user)
            await self._directory.confirm(work.user)
        except SwitchUnavailable as error:
            return DirectoryState(PENDING, error.detail)
        except (DirectoryRefused, PinUnreadable) as error:
            return DirectoryState(FAILED, error.detail)
        return problem or DirectoryState(APPLIED)

    async def _put_pin_in_step(self, work: _Work, user: DirectoryUser) -> DirectoryState | None:
        try:
            await self._phone.put_in_step(work.address, work.entry, user.pin)
        except Unavailable as error:
            # The directory goes on without it: the new PIN works on the phone, and the old one goes when this can be done.
            return DirectoryState(PENDING, f"the PIN in voicemail_prefs is not changed yet: {error.detail}")
        return None

    async def _settle(self, work: _Work, outcome: DirectoryState) -> None:
        """Write the outcome, and try again later where it was not applied."""
        address = work.address
        async with self._pool.acquire() as connection, connection.transaction():
            if work.user is None and outcome.state is APPLIED:
                await entries.forget(connection, address, work.entry.revision)
                return
            pause = min(_FIRST_PAUSE * 2.0 ** min(work.entry.attempts, 10), _LONGEST_PAUSE)
            attempts = await entries.settle(connection, address, work.entry.revision, outcome, try_again_in=pause)
            if attempts is None or outcome.state is APPLIED:
                return
            key = f"{address.extension}:{work.entry.revision}:{attempts}"
            await self._jobs.enqueue(connection, ENTRYPOINT, address.extension, dedupe_key=key, delay=pause)
        log.warning(
            "directory_not_applied", extension=address.extension, state=outcome.state.value, detail=outcome.detail, retry_in=pause
        )

    async def _enqueue(self, connection: Connection, waiting: Sequence[Entry], why: str) -> None:
        items = [(entry.extension, f"{entry.extension}:{entry.revision}:{entry.attempts}:{why}", 0.0) for entry in waiting]
        await self._jobs.enqueue_many(connection, ENTRYPOINT, items)

    def _user(self, mailbox: Mailbox) -> DirectoryUser:
        pin = self._cipher.open(mailbox.id, mailbox.sealed_pin)
        return DirectoryUser(mailbox.address, pin, join_addresses(mailbox.mail_to), mailbox.enabled)
