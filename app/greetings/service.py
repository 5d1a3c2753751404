"""Reads and changes the greetings of a mailbox.

A file is written whole before the switch's row names it, and the row is cleared before its file is removed. So whenever this is
killed, the switch plays the old greeting, the new one, or its default, and never looks for a file that is not there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry, Result
from app.access.audit.readings import Readings
from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import MailboxAddress, MailboxKey
from app.database.pool import Pool
from app.errors import Conflict, NotFound, PreconditionFailed, Unavailable
from app.greetings import files, store
from app.greetings.model import LONGEST, Greeting, Greetings, Plays, Slot
from app.mailboxes.lookup import seen_mailbox
from app.recordings import writing
from app.recordings.conversion import Conversion
from app.recordings.index import RecordingIndex
from app.recordings.storage import OpenRecording, RecordingStorage
from app.switch.tables.greetings import GreetingTable, Played, Preference

log = structlog.get_logger(__name__)

_LONGEST_PATH = 250  # characters: mod_voicemail cuts a path of 255
_EMPTY = "this slot is empty"
_AT_ONCE = 4  # changes of a process, each of which holds a connection


class GreetingService:
    """The greetings of all mailboxes; ``asked`` is the domain that a call names, None: the grant's default one."""

    def __init__(
        self,
        *,
        pool: Pool,
        table: GreetingTable,
        storage: RecordingStorage,
        index: RecordingIndex,
        conversion: Conversion,
        readings: Readings,
    ) -> None:
        """``index``: knows whether the recordings folder is the real one, or the empty place where its disk belongs."""
        self._pool, self._table = pool, table
        self._storage, self._index = storage, index
        self._conversion, self._readings = conversion, readings
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def address(self, grant: Grant, key: MailboxKey, asked: str | None) -> MailboxAddress:
        """The mailbox, if it exists for the caller. Raises ``NotFound``."""
        return (await seen_mailbox(self._pool, grant, key, asked)).address

    async def all(self, grant: Grant, key: MailboxKey, *, asked: str | None) -> Greetings:
        """The filled slots, and what callers hear now. Raises ``NotFound``."""
        address = await self.address(grant, key, asked)
        grant.require(Scope.MAILBOX_READ)
        played = await self._table.played(address)
        filled = await asyncio.to_thread(files.filled, self._storage, address, played)
        return Greetings(tuple(filled), _plays(filled, played, await asyncio.to_thread(self._there, played.greeting)))

    async def audio(self, grant: Grant, key: MailboxKey, slot: Slot, *, asked: str | None) -> OpenRecording:
        """The recording in a slot, open: the caller closes it. Raises ``NotFound``."""
        address = await self.address(grant, key, asked)
        grant.require(Scope.MAILBOX_READ)
        try:
            audio = await asyncio.to_thread(lambda: self._storage.open(files.key_of(self._storage, address, slot)))
        except NotFound:
            raise NotFound(_EMPTY) from None
        try:
            await self._readings.note(_entry(grant, Action.GREETING_AUDIO, address, slot.name))
        except BaseException:
            audio.close()
            raise
        return audio

    async def put(
        self,
        grant: Grant,
        key: MailboxKey,
        slot: Slot,
        data: bytes,
        *,
        activate: bool,
        asked: str | None,
        only_if: frozenset[str] | None = None,
    ) -> Greeting:
        """Put audio into a slot, in place of what it holds; the recorded name is active at once.

        Raises ``NotFound``, ``Invalid`` for what is no audio, and ``PreconditionFailed``.
        """
        address = await self.address(grant, key, asked)
        grant.require(Scope.MAILBOX_WRITE)
        audio = await self._conversion.convert(data, longest=LONGEST)
        await self._index.check_folder()
        activate = activate or slot.preference is Preference.NAME
        async with self._changing(grant, Action.GREETING_SET, address, slot.name):
            file_key = await asyncio.to_thread(files.key_of, self._storage, address, slot)
            path = self._path(file_key)
            await self._check_version(file_key, only_if)
            await asyncio.to_thread(writing.write, self._storage, file_key, audio.data)
            if activate:
                await self._table.set(address, slot.preference, path)
            return await self._greeting(address, slot)

    async def activate(self, grant: Grant, key: MailboxKey, slot: Slot, *, asked: str | None) -> None:
        """Have the switch play this slot. Raises ``NotFound`` if it is empty."""
        address = await self.address(grant, key, asked)
        grant.require(Scope.MAILBOX_WRITE)
        async with self._changing(grant, Action.GREETING_ACTIVATE, address, slot.name):
            file_key = await asyncio.to_thread(files.key_of, self._storage, address, slot)
            try:
                await asyncio.to_thread(self._storage.stat, file_key)
            except NotFound:
                raise NotFound(_EMPTY) from None
            await self._table.set(address, slot.preference, self._path(file_key))

    async def delete(
        self, grant: Grant, key: MailboxKey, slot: Slot, *, asked: str | None, only_if: frozenset[str] | None = None
    ) -> None:
        """Empty a slot; if it was active, callers hear the default. Raises ``NotFound`` if it is empty, and as ``put`` does."""
        address = await self.address(grant, key, asked)
        grant.require(Scope.MAILBOX_WRITE)
        async with self._changing(grant, Action.GREETING_DELETE, address, slot.name):
            file_key = await asyncio.to_thread(files.key_of, self._storage, address, slot)
            await self._check_version(file_key, only_if)
            played = await self._table.played(address)
            if files.is_played(self._storage.paths, played, slot, file_key):
                await self._table.clear(address, slot.preference, only=played.path(slot.preference))
            try:
                removed = await asyncio.to_thread(self._storage.remove, file_key)
            except OSError as error:
                raise Unavailable(f"the greeting cannot be removed: {error.strerror or type(error).__name__}") from error
            if not removed:
                raise NotFound(_EMPTY)

    async def reset(self, grant: Grant, key: MailboxKey, *, asked: str | None) -> None:
        """Have the switch play its default; the slots keep what they hold."""
        address = await self.address(grant, key, asked)
        grant.require(Scope.MAILBOX_WRITE)
        async with self._changing(grant, Action.GREETING_DEFAULT, address, ""):
            await self._table.clear(address, Preference.GREETING)

    @asynccontextmanager
    async def _changing(self, grant: Grant, action: Action, address: MailboxAddress, slot: str) -> AsyncIterator[None]:
        """The time in which a mailbox's greetings are this call's own; the audit has it before anything is changed."""
        await audit.insert(self._pool, [_entry(grant, action, address, slot)])
        async with self._turns, self._pool.acquire() as connection, connection.transaction():
            await store.lock(connection, address)
            yield
        log.info("greeting_changed", action=str(action), mailbox=str(address), slot=slot)

    async def _check_version(self, key: str, only_if: frozenset[str] | None) -> None:
        """Raise ``PreconditionFailed`` if the file's version is none of ``only_if``."""
        if only_if is None:
            return
        try:
            version = (await asyncio.to_thread(self._storage.stat, key)).version
        except NotFound:
            version = ""
        if version not in only_if:
            raise PreconditionFailed("this greeting was changed since it was read; get it again")

    async def _greeting(self, address: MailboxAddress, slot: Slot) -> Greeting:
        played = await self._table.played(address)
        filled = await asyncio.to_thread(files.filled, self._storage, address, played)
        found = next((greeting for greeting in filled if greeting.slot == slot.name), None)
        if found is None:  # removed by somebody else, on the disk itself
            raise NotFound(_EMPTY)
        return found

    def _path(self, key: str) -> str:
        path = self._storage.paths.on_switch(key)
        if len(path) > _LONGEST_PATH:
            raise Conflict(f"the greeting's path would be longer than the {_LONGEST_PATH} characters that mod_voicemail takes")
        return path

    def _there(self, path: str) -> bool:
        """Whether the switch will find a file, as far as that can be seen from here."""
        relative = self._storage.paths.relative(path) if path else None
        return bool(path) and (relative is None or self._storage.exists(relative))


def _plays(filled: list[Greeting], played: Played, there: bool) -> Plays:
    """What mod_voicemail plays: a greeting whose file is not there is as none."""
    active = {greeting.slot for greeting in filled if greeting.active}
    if active - {"name"}:
        return Plays.GREETING
    if played.greeting and there:
        return Plays.OTHER
    return Plays.NAME if active else Plays.DEFAULT


def _entry(grant: Grant, action: Action, address: MailboxAddress, slot: str) -> AuditEntry:
    # Written before the deed, so whether it was done is not known.
    return AuditEntry.of(grant, action, mailbox=address, target=slot, result=Result.ALLOWED)
