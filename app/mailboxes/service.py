"""What can be done with mailboxes: read, create, change and delete them, each change on its way to the switch when it returns."""

from dataclasses import replace
from uuid import UUID, uuid4

import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import Conflict, Invalid, NotFound, SettingsError
from app.mailboxes import store
from app.mailboxes.directory import batch_store
from app.mailboxes.directory import store as entries
from app.mailboxes.directory.batch_store import Backlog
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.mailboxes.directory.store import Entry
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.model import DirectoryState, DirectoryStatus, Mailbox, MailboxChange, NewMailbox, check_version
from app.mailboxes.pins.cipher import KEY_SETTING, PinCipher
from app.mailboxes.pins.phone import PhonePins, PinsSeen

log = structlog.get_logger(__name__)

_PATIENCE = 2.0  # seconds that an answer waits for the switch
_KEY_FACT = "secret_key_fingerprint"


class Mailboxes:
    """The mailboxes of one domain. Raises ``DatabaseUnavailable``."""

    def __init__(
        self,
        *,
        pool: Pool,
        domain: Domain,
        cipher: PinCipher,
        phone: PhonePins,
        publisher: DirectoryPublisher,
        batches: DirectoryBatches,
        waiters: Waiters,
    ) -> None:
        self._pool = pool
        self._domain = domain
        self._cipher = cipher
        self._phone = phone
        self._publisher = publisher
        self._batches = batches
        self._waiters = waiters

    @property
    def domain(self) -> Domain:
        """The domain all of them are in."""
        return self._domain

    def pin(self, mailbox: Mailbox) -> str:
        """The PIN in clear. Raises ``PinUnreadable``."""
        return self._cipher.open(mailbox.id, mailbox.sealed_pin)

    async def check_key(self) -> None:
        """At the start: raise ``SettingsError`` where the mailboxes' PINs were encrypted with another key."""
        await check_key(self._pool, self._cipher)

    async def page(self, *, limit: int, offset: int) -> tuple[list[Mailbox], int]:
        """Mailboxes by extension, and how many there are."""
        async with self._pool.acquire() as connection:
            mailboxes, total = await store.page(connection, self._domain, limit=limit, offset=offset)
        return [self._told(mailbox) for mailbox in mailboxes], total

    async def backlog(self) -> Backlog:
        """How many mailboxes the switch does not have as they should be."""
        async with self._pool.acquire() as connection:
            return await batch_store.backlog(connection, self._domain)

    async def get(self, key: str) -> Mailbox:
        """The mailbox with this id, or else this extension. Raises ``NotFound``, which tells of a removal under way."""
        async with self._pool.acquire() as connection:
            mailbox_id = _uuid(key)
            mailbox = await store.get(connection, mailbox_id) if mailbox_id else None
            if mailbox is None or mailbox.address.domain != self._domain:
                mailbox = await store.find(connection, self._domain, key) if _is_extension(key) else None
            if mailbox is None and (mailbox_id or _is_extension(key)):
                removal = await entries.removal(connection, self._domain, key, mailbox_id)
                if removal is not None:
                    raise NotFound(f"this mailbox is deleted, and {self._removal(removal)}")
        return self._told(_found(mailbox))

    async def create(self, new: NewMailbox) -> Mailbox:
        """A new mailbox. Raises ``Conflict`` if its extension has one, or its id is another's."""
        address = MailboxAddress(new.extension, self._domain)
        mailbox_id = new.id or uuid4()
        mailbox = Mailbox(
            id=mailbox_id,
            address=address,
            sealed_pin=self._cipher.seal(mailbox_id, new.pin),
            mail_to=new.mail_to,
            local_after_email=new.local_after_email,
            enabled=new.enabled,
            description=new.description,
            time_zone=new.time_zone,
            directory=DirectoryState(DirectoryStatus.PENDING),
        )
        sight = await self._phone.look(address)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.insert(connection, mailbox):
                raise await self._taken(connection, mailbox)
            revision = await self._announce(connection, address, sight)
        log.info("mailbox_created", extension=address.extension, mailbox=str(mailbox_id))
        return replace(mailbox, directory=await self._wait(address, revision))

    async def replace(self, key: str, change: MailboxChange) -> DirectoryState:
        """Change a mailbox. Raises ``NotFound``, and ``Invalid`` where the change is meant for another one."""
        address = (await self.get(key)).address
        sight = await self._phone.look(address)
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = change.applied_to(await self._locked(connection, key), self._cipher.seal)
            await store.update(connection, mailbox)
            revision = await self._announce(connection, mailbox.address, sight)
        log.info("mailbox_changed", extension=mailbox.address.extension, mailbox=str(mailbox.id))
        return await self._wait(mailbox.address, revision)

    async def delete(self, key: str, only_if: frozenset[str] | None = None) -> DirectoryState:
        """Forget a mailbox and take it from the switch; its messages stay. Raises ``NotFound``."""
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = await self._locked(connection, key)
            check_version(mailbox, only_if)
            await store.delete(connection, mailbox.id)
            revision = await self._announce(connection, mailbox.address, None)
            await entries.note_removed(connection, mailbox.address, mailbox.id)
        log.info("mailbox_deleted", extension=mailbox.address.extension, mailbox=str(mailbox.id))
        return await self._wait(mailbox.address, revision)

    async def _taken(self, connection: Connection, mailbox: Mailbox) -> Conflict:
        if await store.find(connection, self._domain, mailbox.address.extension):
            return Conflict(f"extension {mailbox.address.extension} has a mailbox already")
        return Conflict("the id is another mailbox's")

    async def _locked(self, connection: Connection, key: str) -> Mailbox:
        mailbox_id = _uuid(key)
        mailbox = await store.lock_id(connection, mailbox_id) if mailbox_id else None
        if mailbox is None or mailbox.address.domain != self._domain:
            mailbox = await store.lock(connection, self._domain, key) if _is_extension(key) else None
        return _found(mailbox)

    async def _announce(self, connection: Connection, address: MailboxAddress, sight: PinsSeen | None) -> int:
        if sight is not None:
            return await entries.raise_seen(connection, address, sight.before, sight.now)
        return (await self._publisher.announce(connection, [address.extension]))[address.extension]

    async def _wait(self, address: MailboxAddress, revision: int) -> DirectoryState:
        """Where the change stands on the switch, after waiting a little if the switch is there; the work goes on without us."""
        state = DirectoryState(DirectoryStatus.PENDING)

        async def settled() -> bool:
            nonlocal state
            async with self._pool.acquire() as connection:
                entry = await entries.find(connection, address)
            # A removal is forgotten once it is applied.
            state = entry.directory if entry else DirectoryState(DirectoryStatus.APPLIED)
            return entry is None or entry.revision != revision or entry.attempts > 0 or not self._batches.possible

        self._batches.wake()
        if self._batches.possible:
            await self._waiters.wait(address.extension, settled, limit=_PATIENCE)
        return self._reasoned(state)

    def _reasoned(self, state: DirectoryState) -> DirectoryState:
        """``state``, and why it is pending if no attempt has said so yet."""
        if state.state is DirectoryStatus.PENDING and not state.detail:
            return DirectoryState(state.state, self._batches.reason())
        return state

    def _told(self, mailbox: Mailbox) -> Mailbox:
        return replace(mailbox, directory=self._reasoned(mailbox.directory))

    def _removal(self, entry: Entry) -> str:
        state = self._reasoned(entry.directory)
        return f"its removal from the switch is {state.state.value}: {state.detail}"


async def check_key(pool: Pool, cipher: PinCipher) -> None:
    """Raise ``SettingsError`` where the PINs in this database were encrypted with another key."""
    async with pool.acquire() as connection, connection.transaction():
        noted = await store.note_once(connection, _KEY_FACT, cipher.fingerprint())
    if noted != cipher.fingerprint():
        raise SettingsError.field(KEY_SETTING, "is not the key that the PINs in this database were encrypted with")


def _found(mailbox: Mailbox | None) -> Mailbox:
    if mailbox is None:
        raise NotFound("there is no mailbox with this id or extension")
    return mailbox


def _uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


def _is_extension(key: str) -> bool:
    try:
        Extension.parse(key)
    except Invalid:
        return False
    return True
