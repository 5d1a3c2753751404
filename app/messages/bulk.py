"""One action for many messages. Each has a result of its own, as the call for this one message would have had."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from app.access.audit import store as audit
from app.access.audit.model import Action
from app.access.grant import Grant
from app.addressing import Extension
from app.database.pool import Pool
from app.errors import NotFound, Unavailable, VoicemailError
from app.messages.actions import MessageActions, entry_of
from app.messages.model import Message
from app.messages.phone_updates import PhoneUpdates, mailbox_of
from app.messages.sending import Sending
from app.messages.service import Messages
from app.messages.transfer_store import Kind
from app.messages.trash_many import ManyToTrash
from app.switch.switch import Switch
from app.switch.tables import changes
from app.switch.tables.model import uuid_in

MOST = 1000  # messages of a call
_AT_ONCE = 6
_ABSENT = "there is no such message"


class BulkAction(StrEnum):
    """What is done to each message."""

    READ = "read"
    UNREAD = "unread"
    SAVE = "save"
    DELETE = "delete"
    RESTORE = "restore"
    MOVE = "move"
    COPY = "copy"


SENDING = {BulkAction.MOVE: Kind.MOVE, BulkAction.COPY: Kind.COPY}
# The marks of each action, and what the audit says of them.
MARKS: dict[BulkAction, tuple[bool | None, bool | None, str]] = {
    BulkAction.READ: (True, None, "read=true"),
    BulkAction.UNREAD: (False, None, "read=false"),
    BulkAction.SAVE: (None, True, "saved=true"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, and to which mailbox messages go if they are moved or copied."""

    action: BulkAction
    to: str | None = None
    domain: str | None = None  # of ``to``; None: each message's own
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message."""

    id: str  # as the caller wrote it
    detail: str
    error: VoicemailError | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The ids that a filter found, newest first, and how many it found beside them."""

    ids: Sequence[str]
    more: int


class Bulk:
    """Does one thing to many messages."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch: Switch,
        messages: Messages,
        actions: MessageActions,
        sending: Sending,
        trash: ManyToTrash,
        phones: PhoneUpdates,
    ) -> None:
        self._pool, self._switch_pool = pool, switch.pool
        self._messages, self._actions, self._sending, self._trash = messages, actions, sending, trash
        self._phones = phones

    async def choose(self, grant: Grant, action: BulkAction, extension: str | None, domain: str | None) -> Chosen:
        """The newest messages of a mailbox or of domains; those in the trash if they are to be restored. Raises ``NotFound``."""
        mailbox = None if extension is None else Extension(extension)
        if action is BulkAction.RESTORE:
            page = await self._actions.trashed(grant, mailbox, domain=domain, limit=MOST)
            return Chosen([line.id for line in page.lines], max(page.total - MOST, 0))
        lines = await self._messages.page(grant, mailbox, domain=domain, limit=MOST)
        return Chosen([str(line[0]) for line in lines.lines], max(lines.total - MOST, 0))

    async def run(self, grant: Grant, keys: Sequence[str], order: Order) -> list[Outcome]:
        """Do it to each; the outcomes in the order of the keys, one a message.

        Raises ``NotFound`` or ``Conflict`` if no message could go to ``to``.
        """
        if order.to is not None and order.domain is not None:
            await self._sending.target(grant, order.to, order.domain)
        ids = _once(keys)
        with self._phones.together():
            if order.action is BulkAction.RESTORE:
                errors = await self._each(ids, lambda key: self._restore(grant, key, order))
            else:
                errors = await self._live(grant, ids, order)
        would = "would be done" if order.dry_run else "done"
        return [Outcome(key, error.detail if (error := errors.get(key)) else would, errors.get(key)) for key in ids]

    async def _live(self, grant: Grant, ids: dict[str, UUID | None], order: Order) -> dict[str, VoicemailError]:
        wanted = [id_ for id_ in ids.values() if id_ is not None]
        found = await self._messages.find_many(grant, wanted)
        there = {key: found[id_] for key, id_ in ids.items() if id_ is not None and id_ in found}
        errors: dict[str, VoicemailError] = {key: NotFound(_ABSENT) for key in ids if key not in there}
        if order.action in SENDING:
            return errors | await self._each(there, lambda key: self._send(grant, there[key], order))
        if order.dry_run:
            return errors
        if order.action is BulkAction.DELETE:
            messages = list({message.id: message for message in there.values()}.values())
            entries = [entry_of(grant, Action.MESSAGE_DELETE, message, "to the trash") for message in messages]
            results = await self._trash.delete(messages, entries)
            return errors | {key: error for key, message in there.items() if (error := results.get(message.id))}
        return errors | await self._mark(grant, there, order.action)

    async def _mark(self, grant: Grant, there: dict[str, Message], action: BulkAction) -> dict[str, VoicemailError]:
        read, saved, detail = MARKS[action]
        mailboxes = {box for message in there.values() if (box := mailbox_of(message.domain, message.extension))}
        async with self._pool.acquire() as connection, connection.transaction():
            entries = [entry_of(grant, Action.MESSAGE_CHANGE, message, detail) for message in there.values()]
            await audit.insert(connection, entries)
            await self._phones.ask(connection, mailboxes)

        async def mark(key: str) -> None:
            # A statement each: several rows locked at once could be a deadlock with a phone's session.
            async with self._switch_pool.acquire() as connection:
                if not await changes.mark(connection, there[key].row, read=read, saved=saved):
                    raise NotFound(_ABSENT)

        errors = await self._each(there, mark)
        self._phones.soon(mailboxes)
        return errors

    async def _restore(self, grant: Grant, key: str, order: Order) -> None:
        if order.dry_run:
            await self._actions.in_trash(grant, key)
        else:
            await self._actions.restore(grant, key)

    async def _send(self, grant: Grant, message: Message, order: Order) -> None:
        assert order.to is not None
        if order.dry_run:
            await self._sending.check(grant, message, SENDING[order.action], [order.to], order.domain)
        else:
            await self._sending.send(grant, message, SENDING[order.action], [order.to], order.domain)

    async def _each(
        self, keys: "dict[str, UUID | None] | dict[str, Message]", act: Callable[[str], Awaitable[None]]
    ) -> dict[str, VoicemailError]:
        """Act on each, some at once; what hindered it."""
        turn = asyncio.Semaphore(_AT_ONCE)
        errors: dict[str, VoicemailError] = {}

        async def one(key: str) -> None:
            async with turn:
                try:
                    await act(key)
                except VoicemailError as error:
                    errors[key] = error
                except OSError as error:  # one disk's trouble must not hide what was done to the others
                    errors[key] = Unavailable(f"the recording cannot be handled: {error.strerror or type(error).__name__}")

        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                tasks.create_task(one(key))
        return errors


def _once(keys: Sequence[str]) -> dict[str, UUID | None]:
    """The id in each key, without keys of the same message; an id may be written in capitals too."""
    seen: set[UUID | str] = set()
    ids: dict[str, UUID | None] = {}
    for key in keys:
        id_ = uuid_in(key)
        if (id_ or key) not in seen:
            seen.add(id_ or key)
            ids[key] = id_
    return ids
