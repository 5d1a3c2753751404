"""Leaves a message as a call does: recording, row, ``leave-message`` event, MWI; the intake's registry gives it its id and mail.

mod_voicemail's ``vm_inject`` is not used: it says ``+OK`` also if it delivers nothing, and never which message it made. The
message is noted (``heard``) before its file is written. So if this process is killed, either the file is there and ``Rescue``
does the rest, once, or there is no file and nothing was left. The caller gets its answer after the row is committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry, Result
from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import MailboxAddress, MailboxKey
from app.database.pool import Pool
from app.errors import (
    Conflict,
    DatabaseFailed,
    DatabaseUnavailable,
    NotFound,
    SwitchUnavailable,
    Unavailable,
    VoicemailError,
)
from app.mailboxes.lookup import seen_mailbox
from app.mailboxes.model import Mailbox
from app.messages import heard, lost
from app.messages.lost import LeftMessage
from app.messages.model import Message
from app.messages.service import Messages
from app.recordings import writing
from app.recordings.conversion import Conversion, PlainAudio
from app.recordings.folders import mailbox_folder
from app.recordings.index import RecordingIndex
from app.recordings.storage import RecordingStorage
from app.switch.commands import left_message, user_data
from app.switch.switch import Switch
from app.switch.tables import messages as rows
from app.switch.tables.model import MessageRow

log = structlog.get_logger(__name__)

LONGEST = 600  # seconds
_DUE = 60.0  # seconds after which ``Rescue`` looks whether the row came
_LONGEST_PATH = 250  # characters: of file_path are 255, and mod_voicemail uses 250
_KEPT = "the message is kept, and is delivered as soon as the switch's database takes it: do not send it again"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who leaves the message, and how urgent it is; texts without control characters of at most 255 characters."""

    name: str
    number: str
    urgent: bool = False


class Leaving:
    """Puts messages into mailboxes. ``hint`` wakes the intake for a recording."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch: Switch,
        storage: RecordingStorage,
        index: RecordingIndex,
        conversion: Conversion,
        messages: Messages,
        hint: Callable[[Collection[str]], None],
    ) -> None:
        self._pool, self._switch = pool, switch
        self._storage, self._index, self._conversion = storage, index, conversion
        self._messages, self._hint = messages, hint

    async def mailbox(self, grant: Grant, key: MailboxKey, *, asked: str | None) -> Mailbox:
        """The mailbox, if it exists for the caller. Raises ``NotFound``."""
        return await seen_mailbox(self._pool, grant, key, asked)

    async def leave(self, grant: Grant, key: MailboxKey, data: bytes, caller: Caller, *, asked: str | None) -> Message:
        """Leave this audio as a message; it is in the mailbox when this returns.

        Raises ``NotFound``, ``Invalid`` for what is no audio, and ``Conflict`` if a caller would be turned away, too.
        """
        mailbox = await self.mailbox(grant, key, asked=asked)
        grant.require(Scope.MESSAGE_WRITE)
        if not mailbox.enabled:
            raise Conflict("this mailbox is disabled: it takes no messages")
        audio = await self._conversion.convert(data, longest=LONGEST)
        await self._check_space(mailbox.address)
        await self._index.check_folder()
        uuid = uuid4()
        left = await self._message(mailbox.address, uuid, caller, audio)
        await self._note(grant, left)
        await self._write(left, audio)
        await self._insert(left)
        await self._tell(left)
        return await self._shown(grant, uuid, left)

    async def _message(self, address: MailboxAddress, uuid: UUID, caller: Caller, audio: PlainAudio) -> LeftMessage:
        folder = await asyncio.to_thread(mailbox_folder, self._storage, address)
        path = self._storage.paths.on_switch(f"{folder}/msg_{uuid}.wav")
        if len(path) > _LONGEST_PATH:
            raise Conflict(f"the recording's path would be longer than the {_LONGEST_PATH} characters of its column")
        async with self._switch.pool.acquire() as connection:
            now = await rows.clock(connection)
        return LeftMessage(
            file_path=path,
            domain=address.domain,
            username=address.extension,
            uuid=str(uuid),
            caller_name=caller.name or lost.NOBODY,
            caller_number=caller.number or lost.NOBODY,
            created_epoch=now,
            duration=int(audio.seconds),
            read_flags=lost.URGENT if caller.urgent else lost.NORMAL,
        )

    async def _check_space(self, address: MailboxAddress) -> None:
        """Raise ``Conflict`` if callers hear that the mailbox is full. A switch that is away is not waited for."""
        try:
            reply = await self._switch.socket.command(user_data(address, "param", "vm-disk-quota"))
        except SwitchUnavailable:
            return
        quota = int(reply.value) if reply.value.isascii() and reply.value.isdigit() and len(reply.value) < 10 else 0
        if quota:
            async with self._switch.pool.acquire() as connection:
                used = await lost.seconds(connection, address)
            if used >= quota:
                raise Conflict(f"this mailbox is full: its messages are {used} seconds long, and vm-disk-quota is {quota}")

    async def _note(self, grant: Grant, left: LeftMessage) -> None:
        # The audit has it before it is done.
        entry = AuditEntry.of(grant, Action.MESSAGE_LEAVE, mailbox=left.address, target=left.uuid, result=Result.ALLOWED)
        async with self._pool.acquire() as connection, connection.transaction():
            await audit.insert(connection, [entry])
            await heard.put(connection, [left], due_in=_DUE)
            await heard.inserting(connection, left.file_path)

    async def _write(self, left: LeftMessage, audio: PlainAudio) -> None:
        key = self._storage.key(left.file_path)
        try:
            await asyncio.to_thread(writing.write, self._storage, key, audio.data)
        except Unavailable:
            await self._forget(left)  # nothing was left
            raise

    async def _insert(self, left: LeftMessage) -> None:
        """Write the row, unless ``Rescue`` did meanwhile. Raises ``Unavailable``."""
        recording = self._storage.key(left.file_path)
        try:
            async with self._pool.acquire() as connection:
                if await heard.came(connection, [recording]):
                    return
            async with self._switch.pool.acquire() as connection:
                await lost.insert(connection, left)
        except DatabaseUnavailable as error:
            log.warning("message_left_without_row", mailbox=str(left.address), path=left.file_path, reason=error.reason)
            raise Unavailable(_KEPT) from error
        except (DatabaseFailed, Unavailable):
            # The table refused it: take back the file, so that nobody delivers later what this caller is told did not work.
            await asyncio.to_thread(self._storage.remove, recording)
            await self._forget(left)
            raise

    async def _tell(self, left: LeftMessage) -> None:
        """Index the recording, wake the intake, fire the event and send MWI; ``Rescue`` sends an MWI that fails here."""
        await self._quietly(self._index.add([left.file_path]), left)
        self._hint([left.file_path])
        headers = {
            "VM-Caller-ID-Name": left.caller_name, "VM-Caller-ID-Number": left.caller_number, "VM-File-Path": left.file_path,
            "VM-Flags": left.read_flags, "VM-Folder": "inbox", "VM-UUID": left.uuid, "VM-Message-Len": str(left.duration),
            "VM-Timestamp": str(left.created_epoch),
        }  # fmt: skip
        await self._quietly(self._switch.socket.command(left_message(left.address, headers)), left)
        if await self._quietly(self._switch.mwi.refresh(left.address), left):
            await self._quietly(self._forget(left), left)

    async def _shown(self, grant: Grant, uuid: UUID, left: LeftMessage) -> Message:
        """The message as the list shows it; as it was written, if it cannot be read now."""
        try:
            return await self._messages.find(grant, str(uuid), domain=left.domain)
        except (DatabaseFailed, Unavailable, NotFound):
            row = MessageRow(
                left.domain, left.username, left.uuid, left.file_path, left.caller_name, left.caller_number,
                left.created_epoch, 0, left.duration, "",
            )  # fmt: skip
            return Message(uuid, row)

    async def _forget(self, left: LeftMessage) -> None:
        async with self._pool.acquire() as connection:
            await heard.forget(connection, [left.file_path])

    @staticmethod
    async def _quietly(work: Awaitable[object], left: LeftMessage) -> bool:
        """Do what may fail: the message is in the mailbox all the same. Whether it was done."""
        try:
            await work
        except (VoicemailError, OSError) as error:
            reason = type(error).__name__
            log.warning("message_left_not_announced", mailbox=str(left.address), uuid=left.uuid, reason=reason)
            return False
        return True
