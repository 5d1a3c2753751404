"""What a caller does with a message: mark it, delete it, restore it. Each touches one row of the switch and nothing else.

What is done is written down before it is done: the audit, and that the mailbox's phones are to be told.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry, Result
from app.access.grant import Grant
from app.access.scopes import EVERY
from app.addressing import Extension
from app.database.pool import Connection, Pool
from app.errors import Conflict, NotFound
from app.messages.model import Message, RecordingState
from app.messages.phone_updates import PhoneUpdates, mailbox_of
from app.messages.reasons import Reason
from app.messages.removal import Removal
from app.messages.service import Messages
from app.messages.trash import TRASH, Trash, TrashAside
from app.messages.trash_store import Trashed, TrashLine
from app.switch.switch import Switch
from app.switch.tables import changes
from app.switch.tables.model import uuid_in

DELETE = "delete"  # the reason for which a message goes for good
_ABSENT = "there is no such message"
_NO_DOMAIN = "there is no such domain"


async def _wanted(_connection: Connection, _message_id: UUID) -> str:
    """The caller asked for it, and waits: there is no condition that could have changed."""
    return ""


def reasons(aside: TrashAside) -> tuple[Reason, Reason]:
    """The reasons for which callers have messages removed."""
    return (
        Reason(TRASH, _wanted, only_unheard=False, at_once=True, aside=aside),
        Reason(DELETE, _wanted, only_unheard=False, at_once=True),
    )


@dataclass(frozen=True, slots=True)
class TrashPage:
    """A page of the trash."""

    lines: Sequence[TrashLine]
    total: int
    states: Mapping[str, RecordingState]  # of their recordings, by the id


class MessageActions:
    """Changes messages. A caller changes those of its grant; an extension names no message here."""

    def __init__(
        self, *, pool: Pool, switch: Switch, messages: Messages, removal: Removal, trash: Trash, phones: PhoneUpdates
    ) -> None:
        self._pool, self._switch_pool = pool, switch.pool
        self._messages, self._removal, self._trash, self._phones = messages, removal, trash, phones

    async def change(
        self, grant: Grant, key: str, *, domain: str | None = None, read: bool | None = None, saved: bool | None = None
    ) -> None:
        """Mark a message; None leaves a mark as it is. Raises ``NotFound``."""
        message = await self.find(grant, key, domain=domain)
        marks = {name: value for name, value in (("read", read), ("saved", saved)) if value is not None}
        if not marks:
            return
        detail = ", ".join(f"{name}={str(value).lower()}" for name, value in marks.items())
        mailbox = {address} if (address := mailbox_of(message.domain, message.extension)) else set()
        async with self._pool.acquire() as connection, connection.transaction():
            await audit.insert(connection, [entry_of(grant, Action.MESSAGE_CHANGE, message, detail)])
            await self._phones.ask(connection, mailbox)
        async with self._switch_pool.acquire() as connection:
            marked = await changes.mark(connection, message.row, read=read, saved=saved)
        self._phones.soon(mailbox)
        if not marked:
            raise NotFound(_ABSENT)

    async def delete(self, grant: Grant, key: str, *, domain: str | None = None, permanently: bool = False) -> None:
        """Move a message to the trash, or remove it for good, also from the trash.

        Raises ``NotFound``, and ``Unavailable`` if it cannot be deleted now.
        """
        try:
            message = await self.find(grant, key, domain=domain)
        except NotFound:
            if not permanently:
                raise
            await self._purge(grant, key, domain)
            return
        reason = DELETE if permanently else TRASH
        async with self._pool.acquire() as connection, connection.transaction():
            detail = "permanently" if permanently else "to the trash"
            await audit.insert(connection, [entry_of(grant, Action.MESSAGE_DELETE, message, detail)])
            removal_id = await self._removal.ask_now(connection, message.id, reason)
        await self._removal.delete_now(message.id, removal_id, reason)

    async def restore(self, grant: Grant, key: str, *, domain: str | None = None) -> None:
        """Put a message back. Raises ``NotFound``, ``Conflict`` if it is in its mailbox, and ``Unavailable``."""
        trashed = await self.in_trash(grant, key, domain=domain)
        row = trashed.whole.row
        entry = AuditEntry.of(
            grant, Action.MESSAGE_RESTORE, domain=row.domain, extension=row.username, target=trashed.id, result=Result.ALLOWED
        )
        await self._trash.restore(trashed.id, [entry])

    async def in_trash(self, grant: Grant, key: str, *, domain: str | None = None) -> Trashed:
        """A message that can be restored. Raises ``NotFound``, and ``Conflict`` if it is in its mailbox."""
        try:
            return await self._trashed(grant, key, domain)
        except NotFound:
            await self.find(grant, key, domain=domain)
            raise Conflict("the message is not in the trash") from None

    async def trashed(
        self, grant: Grant, extension: Extension | None = None, *, domain: str | None = None, limit: int = 10, offset: int = 0
    ) -> TrashPage:
        """Messages in the trash, as ``Messages.page`` lists those in the mailboxes."""
        reach = grant.reach(domain, extension, absent=_NO_DOMAIN)
        lines, total = await self._trash.page(reach, limit=limit, offset=offset)
        return TrashPage(lines, total, await asyncio.to_thread(self._trash.states, lines))

    async def find(self, grant: Grant, key: str, *, domain: str | None = None) -> Message:
        """The message with this id. Raises ``NotFound``, also for an extension."""
        if uuid_in(key) is None:
            raise NotFound(_ABSENT)
        return await self._messages.find(grant, key, domain=domain)

    async def admit(self, grant: Grant, key: str, *, domain: str | None = None) -> None:
        """Raise ``NotFound`` unless the message is in a mailbox or in the trash."""
        try:
            await self.find(grant, key, domain=domain)
        except NotFound as absent:
            try:
                await self._trashed(grant, key, domain)
            except NotFound:
                raise absent from None

    async def _trashed(self, grant: Grant, key: str, domain: str | None) -> Trashed:
        id_ = uuid_in(key)
        if id_ is None:
            raise NotFound(_ABSENT)
        return await self._trash.find(id_, grant.reach(domain or EVERY, absent=_ABSENT))

    async def _purge(self, grant: Grant, key: str, domain: str | None) -> None:
        try:
            trashed = await self._trashed(grant, key, domain)
            row = trashed.whole.row
            entry = AuditEntry.of(
                grant,
                Action.MESSAGE_DELETE,
                domain=row.domain,
                extension=row.username,
                target=trashed.id,
                detail="from the trash",
            )
            await self._trash.purge(trashed.id, [entry])
        except NotFound:
            raise NotFound(_ABSENT) from None


def entry_of(grant: Grant, action: Action, message: Message, detail: str) -> AuditEntry:
    """The audit's row of what is done to a message."""
    return AuditEntry.of(
        grant,
        action,
        domain=message.domain,
        extension=message.extension,
        target=message.id,
        detail=detail,
        result=Result.ALLOWED,
    )
