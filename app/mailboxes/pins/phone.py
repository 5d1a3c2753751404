"""One PIN at a time: if a PIN was set by phone and by the API, the later one is used everywhere.

mod_voicemail lets people in with the PIN in voicemail_prefs, which the phone's menu writes, and with the one in the directory.
What was last seen in or written to voicemail_prefs is remembered as a digest: if the table holds something else, it was set
by phone after that.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry, Result
from app.access.origin import Actor
from app.addressing import Domain, MailboxAddress
from app.database.pool import Pool
from app.errors import Unavailable
from app.jobs.loop import Loop
from app.jobs.repeats import Repeats
from app.jobs.retries import Retries
from app.mailboxes import fields, store
from app.mailboxes.directory import batch_store
from app.mailboxes.directory import store as entries
from app.mailboxes.directory.store import Entry
from app.mailboxes.lockout import store as locks
from app.mailboxes.model import DirectoryStatus, Lock, Mailbox
from app.mailboxes.pins.cipher import PinCipher, PinKeyMissing, PinUnreadable
from app.mailboxes.pins.locked import is_lock_pin
from app.switch.esl.reply import Event
from app.switch.tables.prefs import VoicemailTables

log = structlog.get_logger(__name__)

_EVERY = 30.0  # seconds
# The event comes before the row is written, so look more than once.
_AFTER_HINT = (0.2, 1.0, 4.0)
_RETRIES = Retries(first=5.0, longest=_EVERY)
_LOCK_TRIES = 4  # a PIN may be set by phone at the same moment


@dataclass(frozen=True, slots=True)
class PinsSeen:
    """Digests of what voicemail_prefs held: at the look before, and at this one; None if that is not known."""

    before: bytes | None
    now: bytes | None


class PhonePins:
    """Adopts PINs that were set by phone."""

    def __init__(self, pool: Pool, cipher: PinCipher, tables: VoicemailTables) -> None:
        self._pool = pool
        self._cipher = cipher
        self._tables = tables
        self._repeats = Repeats()
        self._loop = Loop("phone_pins", self._sync_all, every=_EVERY, after_wake=_AFTER_HINT, retries=_RETRIES)

    def hear(self, event: Event) -> None:
        """Look soon if the event tells of a PIN set by phone. It is a hint: the mailbox is not read from it."""
        if event.subclass == "vm::maintenance" and event.headers.get("VM-Action") == "change-password":
            self._loop.wake()

    async def run(self) -> None:
        """Look every half minute and after every hint, until cancelled."""
        await self._loop.run()

    async def sync(self) -> int:
        """Adopt the PINs that were set by phone, in any domain; returns how many. Raises ``Unavailable``."""
        async with self._pool.acquire() as connection:
            domains = await entries.domains(connection)
        seen = await self._tables.all_pins(domains) if domains else {}
        async with self._pool.acquire() as connection:
            known = await entries.digests(connection, list(seen))
        changed = await asyncio.to_thread(self._changed, seen, known)
        return sum([await self._adopt(address) for address in changed])

    async def look(self, address: MailboxAddress) -> PinsSeen:
        """The PINs in voicemail_prefs now. Call it before setting a PIN; a later difference was made by phone."""
        async with self._pool.acquire() as connection:
            entry = await entries.find(connection, address)
        before = entry.prefs_digest if entry else None
        try:
            return PinsSeen(before, self._cipher.digest(address, await self._tables.pins(address)))
        except Unavailable as error:
            self._repeats.tell("voicemail_prefs_not_read", error.detail, extension=address.extension)
            return PinsSeen(before, None)

    async def put_in_step(self, domain: Domain, wanted: Sequence[tuple[Entry, str]]) -> None:
        """Write one domain's PINs to voicemail_prefs, but for one that was set by phone meanwhile, which is then adopted soon.

        ``wanted``: entries, each with its mailbox's PIN of the same moment. Raises ``Unavailable`` if the switch's database
        is away.
        """
        extensions = [entry.extension for entry, _ in wanted]
        found = await self._tables.pins_of(domain, extensions)
        # Asked after what is there was read: if a mailbox is locked from here on, its lock is written over and not under.
        async with self._pool.acquire() as connection:
            locked = await locks.locked(connection, domain, extensions)
        pins: dict[str, str] = {}
        for entry, laid_down in wanted:
            pin = self._due(MailboxAddress(entry.extension, domain), laid_down, locked.get(entry.extension))
            there = found.get(entry.extension, ())
            if pin is None:
                continue
            if there != (pin,) and self._set_by_phone(domain, entry, there):
                self._loop.wake()
            else:
                pins[entry.extension] = pin
        written = await self._tables.set_pins(domain, pins, instead_of=found)
        seen = []
        for entry, _ in wanted:
            if entry.extension in pins:
                # Note the PINs that were written, not a second look: a PIN may have been set by phone since.
                there = (pins[entry.extension],) if entry.extension in written else found.get(entry.extension, ())
                seen.append((entry, self._digest(domain, entry, there)))
        async with self._pool.acquire() as connection, connection.transaction():
            await batch_store.note_seen(connection, domain, seen)

    async def write_lock(self, address: MailboxAddress) -> None:
        """Write a locked mailbox's unguessable PIN to voicemail_prefs at once; the directory has it only after a reload.

        A PIN that was set by phone and not yet seen is adopted first. Raises ``Unavailable``.
        """
        for _ in range(_LOCK_TRIES):
            async with self._pool.acquire() as connection, connection.transaction():
                await entries.lock(connection, address)
                mailbox = await store.lock(connection, address.domain, address.extension)
                entry = await entries.find(connection, address)
                if mailbox is None or mailbox.lock is None or entry is None:
                    return
                there = await self._tables.pins(address)
                if not self._set_by_phone(address.domain, entry, there):
                    pin = self._cipher.lock_pin(address, mailbox.lock.number)
                    if await self._tables.lock(address, pin, instead_of=there):
                        await entries.note_seen(connection, address, entry.prefs_digest, self._cipher.digest(address, [pin]))
                        return
            await self._adopt(address)

    def _due(self, address: MailboxAddress, laid_down: str, lock: Lock | None) -> str | None:
        """The PIN that voicemail_prefs should have; None if a lock was laid down that has ended: what comes next knows better."""
        if lock is not None:
            return self._cipher.lock_pin(address, lock.number)
        return None if is_lock_pin(laid_down) else laid_down

    def _digest(self, domain: Domain, entry: Entry, pins: Sequence[str]) -> bytes:
        return self._cipher.digest(MailboxAddress(entry.extension, domain), pins)

    def _set_by_phone(self, domain: Domain, entry: Entry, there: Sequence[str]) -> bool:
        """Whether these PINs are other ones than were seen last; False if that is not known. No phone sets the PIN of a lock."""
        seen = entry.prefs_digest
        if there and all(is_lock_pin(pin) for pin in there):
            return False
        if seen is None or not self._cipher.knows(seen):
            return False
        return not self._cipher.matches(seen, MailboxAddress(entry.extension, domain), there)

    async def _sync_all(self) -> None:
        await self.sync()

    def _changed(
        self, seen: Mapping[tuple[str, str], tuple[str, ...]], known: Mapping[MailboxAddress, bytes]
    ) -> list[MailboxAddress]:
        return [
            address
            for address, digest in known.items()
            if not self._cipher.matches(digest, address, seen[address.domain, address.extension])
        ]

    async def _adopt(self, address: MailboxAddress) -> bool:
        """Take the PIN that was set by phone, unless the API set another after it."""
        async with self._pool.acquire() as connection, connection.transaction():
            await entries.lock(connection, address)
            mailbox = await store.lock(connection, address.domain, address.extension)
            entry = await entries.find(connection, address)
            if mailbox is None or entry is None or entry.prefs_digest is None:
                return False
            pins = await self._tables.pins(address)
            if not pins or self._cipher.matches(entry.prefs_digest, address, pins):
                return False
            if not self._cipher.knows(entry.prefs_digest) and entry.directory.state is not DirectoryStatus.APPLIED:
                return False  # nobody can say whether it was set by phone, and put_in_step is about to write ours over it
            digest = self._cipher.digest(address, pins)
            try:
                new = [pin for pin in pins if pin != self._cipher.open(mailbox.id, mailbox.sealed_pin)]
            except PinKeyMissing:
                return False  # its key may come back; until then nothing takes its place
            except PinUnreadable:
                new = list(pins)
            new = [pin for pin in new if not is_lock_pin(pin)]
            adopted = bool(new) and _acceptable(new[-1])
            if adopted:
                await store.update(connection, replace(mailbox, sealed_pin=self._cipher.seal(mailbox.id, new[-1])))
                await audit.insert(connection, [_set_by_phone(mailbox)])
            if adopted or (mailbox.lock is None and any(is_lock_pin(pin) for pin in pins)):
                # Of a lock that is not known any more, as after a restore of our database, the mailbox's own PIN is put back.
                await entries.raise_revisions(connection, address.domain, [address.extension])
            await entries.note_seen(connection, address, entry.prefs_digest, digest)
        if new:
            log.info("pin_set_by_phone" if adopted else "pin_in_voicemail_prefs_not_usable", extension=address.extension)
        return adopted


def _set_by_phone(mailbox: Mailbox) -> AuditEntry:
    return AuditEntry(
        action=Action.PIN_SET,
        result=Result.DONE,
        actor=Actor.PHONE,
        name="",
        domain=mailbox.address.domain,
        extension=mailbox.address.extension,
        target=str(mailbox.id),
        detail="password",
    )


def _acceptable(pin: str) -> bool:
    try:
        fields.pin(pin)
    except ValueError:
        return False
    return True
