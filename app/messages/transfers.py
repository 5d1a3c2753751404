"""Moves, copies and forwards messages: first the recording, then the row, then, of a move, the source goes by ``removal``.

Each step is noted before the next one, so at each moment the message is in its mailbox, in the other one, or in both. The new row
has a uuid of its own: the switch's commands then touch it and no other.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from uuid import UUID, uuid4

import structlog

from app.addressing import MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import Conflict, DatabaseFailed, NotFound, SwitchRefused, Unavailable, file_and_reason
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.jobs.retries import Retries, job_key
from app.messages import removal_store as removals
from app.messages import transfer_store as store
from app.messages.model import Message
from app.messages.phone_updates import PhoneUpdates, mailbox_of
from app.messages.registry import Registry
from app.messages.removal import Removal
from app.messages.removal_store import RemovalState
from app.messages.transfer_store import Kind, Transfer, TransferState
from app.recordings.placing import RecordingPlacer
from app.recordings.storage import RecordingStorage
from app.switch.switch import Switch
from app.switch.tables import changes
from app.switch.tables.changes import WholeRow

log = structlog.get_logger(__name__)

TRANSFER = "transfer"  # the jobs that go on with transfers; the payload is a transfer's id
MOVE = "move"  # the reason for which the source of a move is removed
_SHARED = "voicemail"  # mod_voicemail's storage-dir-shared puts this folder between domain and mailbox
_LONGEST = 255  # characters of a column of voicemail_msgs
_UNLESS_DONE = 10.0  # seconds; until then the process that was asked does it
_LOOKS, _LOOK = 100, 0.05  # seconds between two looks at what another process does


class Failed(Exception):
    """It cannot be done, now or later; nothing is in the target's mailbox. The text says why."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A message in the mailbox that it was moved, copied or forwarded to."""

    id: UUID
    address: MailboxAddress
    detail: str = ""  # of a move: why the source is still there


class Transfers:
    """Moves, copies and forwards; one instance a process, many processes at once."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch: Switch,
        jobs: Jobs,
        claims: Claims,
        storage: RecordingStorage,
        registry: Registry,
        removal: Removal,
        phones: PhoneUpdates,
        links: bool = True,
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
    ) -> None:
        """``links``: whether a recording may have a second name instead of a copy."""
        self._pool, self._switch_pool = pool, switch.pool
        self._jobs, self._claims, self._retries = jobs, claims, retries
        self._storage, self._placer = storage, RecordingPlacer(storage, links=links)
        self._registry, self._removal, self._phones = registry, removal, phones

    async def plan(self, message: Message, kind: Kind, address: MailboxAddress) -> Transfer:
        """What is to be done. Raises ``Conflict`` if it cannot be done, and ``NotFound`` if the message is gone."""
        if (address.domain, address.extension) == (message.domain, message.extension):
            raise Conflict("to: it is in this mailbox already")
        key = self._storage.paths.relative(message.file_path)
        if key is None or not await asyncio.to_thread(self._storage.exists, key):
            raise Conflict("its recording is missing")
        if kind is Kind.MOVE and (obstacle := await asyncio.to_thread(self._storage.obstacle, key)):
            raise Conflict(f"its recording could not be removed: {obstacle}")
        async with self._switch_pool.acquire() as connection:
            copied = await changes.copies(connection, message.row)
        if not copied:
            raise NotFound("there is no such message")
        new = uuid4()
        file_path = self._storage.paths.on_switch(_beside(key, message, address, new))
        if len(file_path) > _LONGEST:
            raise Conflict("to: the path of its recording would be too long")
        by = message.extension if address.domain == message.domain else f"{message.extension}@{message.domain}"
        whole = copied[0]._replace(
            read_epoch=0, username=address.extension, domain=address.domain, uuid=str(new), in_folder="inbox",
            file_path=file_path, flags="",
            forwarded_by=by[:_LONGEST] if kind is Kind.FORWARD else copied[0].forwarded_by,
        )  # fmt: skip
        return Transfer(new, message.id, kind, message.file_path, whole)

    async def ask(self, connection: Connection, transfers: Sequence[Transfer]) -> None:
        """Write down, in the connection's transaction, what is to be done; then call ``finish``. Raises ``Conflict``.

        If the process dies in between, a job does it.
        """
        if not await store.ask(connection, transfers):
            raise Conflict("the message is being moved already")
        await self._phones.ask(connection, {address for one in transfers if (address := _target(one))})
        await self._jobs.enqueue_many(
            connection, TRANSFER, [(str(one.id), job_key(one.id, 0), _UNLESS_DONE) for one in transfers]
        )

    async def finish(self, transfer: Transfer) -> Moved:
        """Do it now. Raises ``Conflict`` if it failed, and ``Unavailable`` if a job has to go on with it."""
        address = _target(transfer)
        assert address is not None
        for _ in range(_LOOKS):
            await self.transfer(str(transfer.id))
            async with self._pool.acquire() as connection:
                state, detail = await store.state(connection, transfer.id)
                if state is TransferState.DONE and transfer.kind is Kind.MOVE:
                    detail = await _still_there(connection, transfer.message_id)
            if state is TransferState.FAILED:
                raise Conflict(detail)
            if state is TransferState.DONE:
                return Moved(transfer.id, address, detail)
            if detail:
                raise Unavailable(f"it is not done yet, and is tried again: {detail}")
            await asyncio.sleep(_LOOK)  # another process works on it
        raise Unavailable("it is not done yet")

    async def transfer(self, transfer_id: str) -> None:
        """Continue a transfer, if it is due and no other process works on it. The handler of ``transfer`` jobs."""
        found = UUID(transfer_id)
        async with self._claims.hold(found) as ours:
            if not ours:
                return
            async with self._pool.acquire() as connection:
                task = await store.begin(connection, found, self._retries)
            if task is None:
                return
            try:
                await self._go_on(task)
            except Failed as error:
                await self._settle(task, TransferState.FAILED, str(error))
            except (DatabaseFailed, Unavailable, SwitchRefused, NotFound) as error:
                await self._later(task, error.detail)
            except OSError as error:
                await self._later(task, file_and_reason(error))

    async def _go_on(self, task: Transfer) -> None:
        key = self._key(task.whole)
        if task.state is TransferState.ASKED:
            await self._place(task, key)
            async with self._pool.acquire() as connection:
                await store.advance(connection, task.id, TransferState.PLACED)
        if await self._insert(task, key):
            await self._registry.record([task.whole.row])
        self._tell(task)
        removal_id = None
        async with self._pool.acquire() as connection, connection.transaction():
            await store.advance(connection, task.id, TransferState.DONE)
            if task.kind is Kind.MOVE:
                removal_id = await self._removal.ask_now(connection, task.message_id, MOVE)
        log.info("message_transferred", kind=str(task.kind), message=str(task.message_id), new=str(task.id))
        if removal_id is not None:
            await self._removal.remove(str(removal_id))

    async def _place(self, task: Transfer, key: str) -> None:
        source = self._storage.paths.relative(task.source_path)
        try:
            await asyncio.to_thread(self._placer.place, source or "", key, link=task.kind is Kind.MOVE)
        except NotFound as error:
            raise Failed(error.detail) from error

    async def _insert(self, task: Transfer, key: str) -> bool:
        """See that the row was inserted once; False if it came and went, as a phone deletes it together with its file."""
        async with self._pool.acquire() as connection:
            if await store.came(connection, task.id):
                return False
        if await asyncio.to_thread(self._storage.gone, key):
            return False
        async with self._switch_pool.acquire() as connection:
            await changes.put_back(connection, task.whole)
        return True

    def _tell(self, task: Transfer) -> None:
        if address := _target(task):
            self._phones.soon({address})

    def _key(self, whole: WholeRow) -> str:
        return self._storage.key(whole.file_path or "")

    async def _settle(self, task: Transfer, state: TransferState, detail: str) -> None:
        async with self._pool.acquire() as connection:
            await store.advance(connection, task.id, state, detail)
        log.info("transfer_settled", kind=str(task.kind), message=str(task.message_id), state=str(state), detail=detail)

    async def _later(self, task: Transfer, why: str) -> None:
        """Try again, or give up after days of trying; what may be in the target's mailbox is never given up."""
        if task.state is TransferState.ASKED and self._retries.over(task.age, task.tries):
            await self._settle(task, TransferState.FAILED, f"given up after {task.tries} tries: {why}")
            return
        delay = self._retries.delay(task.tries)
        async with self._pool.acquire() as connection, connection.transaction():
            await store.postpone(connection, task.id, why, delay)
            await self._jobs.enqueue(connection, TRANSFER, str(task.id), dedupe_key=job_key(task.id, task.tries), delay=delay)
        log.warning("transfer_postponed", kind=str(task.kind), message=str(task.message_id), reason=why)


async def _still_there(connection: Connection, message_id: UUID) -> str:
    """Why the source of a move is still in its mailbox; ``""`` if it is gone."""
    removal_id = await removals.of_reason(connection, message_id, MOVE)
    if removal_id is None:
        return ""
    state, why = await removals.state(connection, removal_id)
    waits = state in (RemovalState.ASKED, RemovalState.DELETING)
    return f"it is in its old mailbox too until it can be removed: {why}" if waits else ""


def _target(transfer: Transfer) -> MailboxAddress | None:
    return mailbox_of(transfer.whole.domain or "", transfer.whole.username or "")


def _beside(key: str, message: Message, address: MailboxAddress, new: UUID) -> str:
    """The key of the new recording: as the source's, with the other mailbox's folder and a name of its own."""
    source = PurePosixPath(key)
    name, parts = f"msg_{new}{source.suffix}", source.parts[:-1]
    if parts[-3:] == (message.domain, _SHARED, message.extension):
        return "/".join((*parts[:-3], address.domain, _SHARED, address.extension, name))
    above = parts[:-2] if parts[-2:] == (message.domain, message.extension) else ()
    return "/".join((*above, address.domain, address.extension, name))
