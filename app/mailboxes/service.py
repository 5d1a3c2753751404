"""Reads, creates, changes and deletes mailboxes. When a call returns, its change is queued for the switch."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry, Result
from app.access.audit.readings import Readings
from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import Domain, MailboxAddress, MailboxKey
from app.database.pool import Connection, Pool
from app.database.readers import Readers
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.mailboxes import counted as counted_messages
from app.mailboxes import store
from app.mailboxes.counted import MailboxCounts
from app.mailboxes.directory import batch_store
from app.mailboxes.directory import store as entries
from app.mailboxes.directory.batch_store import Backlog
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.mailboxes.directory.store import Entry
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.lockout import locks
from app.mailboxes.model import (
    KEEP,
    Changed,
    DirectoryState,
    DirectoryStatus,
    Keep,
    Mailbox,
    MailboxChange,
    NewMailbox,
    check_version,
)
from app.mailboxes.pins import store as pin_store
from app.mailboxes.pins.cipher import PinCipher, PinUnreadable
from app.mailboxes.pins.phone import PhonePins, PinsSeen
from app.mailboxes.pins.rekey import check_key
from app.mailboxes.recipients import Dropped, check_recipients, dropped, nobody_is_told
from app.switch.directory.domains import DomainFolders

log = structlog.get_logger(__name__)

_PATIENCE = 2.0  # seconds that an answer waits for the switch
_ABSENT = "there is no mailbox with this id or extension"
_NO_DOMAIN = "there is no such domain"


class Mailboxes:
    """The mailboxes of all domains; a caller sees those of its grant. Raises ``DatabaseUnavailable``.

    ``asked`` is the domain that a call names, None: the grant's default one. What the grant does not show is ``NotFound`` before
    anything is looked up, as what is not there; only for what is there a scope that is missing is ``Forbidden``.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        folders: DomainFolders,
        cipher: PinCipher,
        phone: PhonePins,
        publisher: DirectoryPublisher,
        batches: DirectoryBatches,
        waiters: Waiters,
        readings: Readings,
        switch_readers: Readers,
        tell_dropped: Dropped = nobody_is_told,
    ) -> None:
        """``tell_dropped`` queues mails to the addresses that a change or a deletion drops."""
        self._pool = pool
        self._switch_readers = switch_readers
        self._folders = folders
        self._cipher = cipher
        self._phone = phone
        self._publisher = publisher
        self._batches = batches
        self._waiters = waiters
        self._readings = readings
        self._tell_dropped = tell_dropped

    def pin(self, grant: Grant, mailbox: Mailbox) -> str:
        """The PIN in clear, ``""`` for a caller that may not read PINs. Raises ``PinUnreadable``."""
        return self._cipher.open(mailbox.id, mailbox.sealed_pin) if grant.has(Scope.PIN_READ) else ""

    async def check_key(self) -> None:
        """At the start: raise ``SettingsError`` if the mailboxes' PINs were encrypted with another key."""
        await check_key(self._pool, self._cipher)

    async def backlog(self) -> Backlog:
        """How many mailboxes the switch does not have as they should be."""
        async with self._pool.acquire() as connection:
            return await batch_store.backlog(connection, self._folders.only)

    async def page(
        self, grant: Grant, *, asked: str | None, limit: int, offset: int, counted: bool = False
    ) -> tuple[list[Mailbox], int]:
        """Mailboxes by domain and extension, and how many there are. ``asked`` may be ``*``: all domains of the grant.

        ``counted``: ``counts`` is asked for next.
        """
        grant.require(Scope.MAILBOX_READ)
        if counted:
            grant.require(Scope.MESSAGE_READ)
        domains = grant.domains_for(asked, absent=_NO_DOMAIN)
        async with self._pool.acquire() as connection:
            mailboxes, total = await store.page(connection, domains, grant.mailbox, limit=limit, offset=offset)
            if not total and domains and asked and not any([await store.has_domain(connection, one) for one in domains]):
                raise NotFound(_NO_DOMAIN)
        if mailboxes and grant.has(Scope.PIN_READ):
            alone = next(iter(domains)) if domains is not None and len(domains) == 1 else None
            detail = f"list, limit {limit}, offset {offset}"
            await self._readings.note(
                AuditEntry.of(grant, Action.PIN_READ, domain=alone, detail=detail, result=Result.ALLOWED, count=len(mailboxes))
            )
        return [self._told(mailbox) for mailbox in mailboxes], total

    async def counts(self, grant: Grant, mailboxes: Sequence[Mailbox]) -> list[MailboxCounts]:
        """How many messages each of these mailboxes has, by one statement over each database. Raises ``Unavailable``."""
        grant.require(Scope.MESSAGE_READ)
        return await counted_messages.of_mailboxes(self._switch_readers, self._pool, [mailbox.address for mailbox in mailboxes])

    async def get(self, grant: Grant, key: MailboxKey, *, asked: str | None = None) -> Mailbox:
        """The mailbox of this key. Raises ``NotFound``, whose text mentions a removal under way."""
        mailbox = await self.admitted(grant, key, asked=asked)
        grant.require(Scope.MAILBOX_READ)
        if grant.has(Scope.PIN_READ):
            await self._readings.note(
                AuditEntry.of(grant, Action.PIN_READ, mailbox=mailbox.address, target=mailbox.id, result=Result.ALLOWED)
            )
        return self._told(mailbox)

    async def admitted(self, grant: Grant, key: MailboxKey, *, asked: str | None = None) -> Mailbox:
        """As ``get``, for a caller with whatever scopes: whether the mailbox exists for it. Raises ``NotFound``."""
        domain = grant.domain(asked, absent=_ABSENT)
        async with self._pool.acquire() as connection:
            mailbox = await store.find_key(connection, domain, key)
            removal = await entries.removal(connection, domain, key) if mailbox is None else None
        if removal is not None and grant.sees(MailboxAddress(removal.extension, domain)):
            raise NotFound(f"this mailbox is deleted, and {self._removal(domain, removal)}")
        return _seen(grant, mailbox)

    async def create(self, grant: Grant, new: NewMailbox, *, asked: str | None = None) -> Changed:
        """A new mailbox. Raises ``Conflict`` if its extension or its id is taken, and ``NotFound`` for the domain.

        Raises ``Invalid`` for a weak PIN if the domain refuses such PINs; else the result warns of it.
        """
        address = MailboxAddress(new.extension, grant.domain(asked, absent=_NO_DOMAIN))
        if not grant.sees(address):
            raise NotFound(_NO_DOMAIN)
        grant.require(Scope.MAILBOX_WRITE)
        mailbox = new.at(address, new.id or uuid4(), self._cipher.seal)
        sight = await self._phone.look(address)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.has_domain(connection, address.domain):
                raise NotFound(_NO_DOMAIN)
            if not self._folders.serves(address.domain):
                raise Invalid.field("domain", self._folders.refusal(address.domain))
            warnings = (await pin_store.pin_rules(connection, address.domain)).warnings(new.pin, address.extension)
            await check_recipients(connection, address.domain, mailbox.mail_to)
            if not await store.insert(connection, mailbox):
                raise await self._taken(connection, mailbox)
            revision = await self._announce(connection, address, sight)
            await audit.insert(connection, [AuditEntry.of(grant, Action.MAILBOX_CREATE, mailbox=address, target=mailbox.id)])
        log.info("mailbox_created", extension=address.extension, domain=address.domain, mailbox=str(mailbox.id))
        return Changed(replace(mailbox, directory=await self._wait(address, revision)), tuple(warnings))

    async def replace(self, grant: Grant, key: MailboxKey, change: MailboxChange, *, asked: str | None = None) -> Changed:
        """Change a mailbox. Raises ``NotFound``, ``Invalid`` if the change is meant for another one, and as ``create`` does."""
        address = (await self.admitted(grant, key, asked=asked)).address
        grant.require(Scope.MAILBOX_WRITE)
        sight = await self._phone.look(address)
        async with self._pool.acquire() as connection, connection.transaction():
            found = await store.find_key(connection, address.domain, key, lock=True)
            before = _seen(grant, found)
            mailbox = change.applied_to(before, self._cipher.seal)
            warnings = await self._pin_warnings(connection, before, change.pin)
            if change.mail_to is not KEEP:
                await check_recipients(connection, address.domain, mailbox.mail_to)
                await self._tell_dropped(connection, before, dropped(before, mailbox))
            await store.update(connection, mailbox)
            revision = await self._announce(connection, mailbox.address, sight)
            names = ", ".join(change.fields_changed(before, mailbox))
            action = Action.MAILBOX_CHANGE if change.pin is KEEP else Action.PIN_SET
            await audit.insert(connection, [AuditEntry.of(grant, action, mailbox=address, target=mailbox.id, detail=names)])
        log.info("mailbox_changed", extension=address.extension, domain=address.domain, mailbox=str(mailbox.id))
        return Changed(replace(mailbox, directory=await self._wait(mailbox.address, revision)), warnings)

    async def generate_pin(
        self, grant: Grant, key: MailboxKey, only_if: frozenset[str] | None = None, *, asked: str | None = None
    ) -> tuple[str, Changed]:
        """Give a mailbox a random PIN that its domain's rules take; the PIN, ``""`` for a caller that may not read PINs.

        Raises ``NotFound`` and ``PreconditionFailed``.
        """
        address = (await self.admitted(grant, key, asked=asked)).address
        grant.require(Scope.MAILBOX_WRITE)
        async with self._pool.acquire() as connection:
            rules = await pin_store.pin_rules(connection, address.domain)
        pin = rules.generate(address.extension)
        changed = await self.replace(grant, key, MailboxChange(pin=pin, only_if=only_if), asked=asked)
        return pin if grant.has(Scope.PIN_READ) else "", changed

    async def delete(
        self, grant: Grant, key: MailboxKey, only_if: frozenset[str] | None = None, *, asked: str | None = None
    ) -> DirectoryState:
        """Delete a mailbox here and on the switch; its messages stay. Raises ``NotFound``."""
        domain = grant.domain(asked, absent=_ABSENT)
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = _seen(grant, await store.find_key(connection, domain, key, lock=True))
            grant.require(Scope.MAILBOX_WRITE)
            check_version(mailbox, only_if)
            await self._tell_dropped(connection, mailbox, dropped(mailbox, None))
            await store.delete(connection, mailbox.id)
            revision = await self._announce(connection, mailbox.address, None)
            await entries.note_removed(connection, mailbox.address, mailbox.id)
            entry = AuditEntry.of(grant, Action.MAILBOX_DELETE, mailbox=mailbox.address, target=mailbox.id)
            await audit.insert(connection, [entry])
        log.info("mailbox_deleted", extension=mailbox.address.extension, domain=domain, mailbox=str(mailbox.id))
        return await self._wait(mailbox.address, revision)

    async def unlock(
        self, grant: Grant, key: MailboxKey, only_if: frozenset[str] | None = None, *, asked: str | None = None
    ) -> DirectoryState:
        """End a mailbox's lock and count failed logins from nothing, locked or not. Raises ``NotFound``."""
        domain = grant.domain(asked, absent=_ABSENT)
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = _seen(grant, await store.find_key(connection, domain, key, lock=True))
            grant.require(Scope.MAILBOX_WRITE)
            check_version(mailbox, only_if)
            if not await locks.release(connection, mailbox, grant):
                return self._reasoned(domain, mailbox.directory)
            revision = await self._announce(connection, mailbox.address, None)
        return await self._wait(mailbox.address, revision)

    async def _pin_warnings(self, connection: Connection, before: Mailbox, pin: str | Keep) -> tuple[FieldError, ...]:
        """What the domain says of a new PIN. One that was read and sent back is not new."""
        if pin is KEEP:
            return ()
        with suppress(PinUnreadable):
            if self._cipher.open(before.id, before.sealed_pin) == pin:
                return ()
        rules = await pin_store.pin_rules(connection, before.address.domain)
        return tuple(rules.warnings(pin, before.address.extension))

    @staticmethod
    async def _taken(connection: Connection, mailbox: Mailbox) -> Conflict:
        address = mailbox.address
        if await store.find_key(connection, address.domain, MailboxKey(None, address.extension)):
            return Conflict(f"extension {address.extension} has a mailbox already")
        return Conflict("the id is another mailbox's")

    async def _announce(self, connection: Connection, address: MailboxAddress, sight: PinsSeen | None) -> int:
        if sight is not None:
            return await entries.raise_seen(connection, address, sight.before, sight.now)
        return (await self._publisher.announce(connection, address.domain, [address.extension]))[address.extension]

    async def _wait(self, address: MailboxAddress, revision: int) -> DirectoryState:
        """The state of the change on the switch, after a short wait if the switch is connected. The work continues afterwards."""
        state = DirectoryState(DirectoryStatus.PENDING)

        async def settled() -> bool:
            nonlocal state
            async with self._pool.acquire() as connection:
                entry = await entries.find(connection, address)
            # A removal is forgotten once it is applied.
            state = entry.directory if entry else DirectoryState(DirectoryStatus.APPLIED)
            return entry is None or entry.revision != revision or entry.attempts > 0 or not self._batches.possible

        self._batches.wake()
        if self._batches.possible and self._folders.serves(address.domain):
            await self._waiters.wait(address, settled, limit=_PATIENCE)
        return self._reasoned(address.domain, state)

    def _reasoned(self, domain: Domain, state: DirectoryState) -> DirectoryState:
        """``state``, and why it is pending if no attempt has said so yet."""
        if state.state is DirectoryStatus.PENDING and not state.detail:
            return DirectoryState(state.state, self._batches.reason(domain))
        return state

    def _told(self, mailbox: Mailbox) -> Mailbox:
        return replace(mailbox, directory=self._reasoned(mailbox.address.domain, mailbox.directory))

    def _removal(self, domain: Domain, entry: Entry) -> str:
        state = self._reasoned(domain, entry.directory)
        return f"its removal from the switch is {state.state.value}: {state.detail}"


def _seen(grant: Grant, mailbox: Mailbox | None) -> Mailbox:
    if mailbox is None or not grant.sees(mailbox.address):
        raise NotFound(_ABSENT)
    return mailbox
