"""Moves many messages to the trash at once: the steps of ``removal`` and their notes, in few statements for many messages.

Whatever is left half way, here by a fault or there by a process that died, ``removal`` goes on with. Each row of the switch's
table is deleted by a statement of its own: several rows locked at once could be a deadlock with a phone's session.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from app.access.audit import store as audit
from app.access.audit.model import AuditEntry
from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.errors import DatabaseFailed, NotFound, Unavailable, VoicemailError, file_and_reason
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.jobs.retries import Retries, job_key
from app.messages import removal_store as removals
from app.messages import trash_store as store
from app.messages.model import Message
from app.messages.phone_updates import PhoneUpdates, mailbox_of
from app.messages.removal import REMOVE, SHARED, Removal
from app.messages.removal_store import RemovalState
from app.messages.trash import TRASH
from app.recordings.storage import RecordingStorage
from app.recordings.trash import TrashFolder, name_for
from app.switch.switch import Switch
from app.switch.tables import changes
from app.switch.tables.changes import WholeRow

_CHUNK = 200  # messages: each needs a lock of the database meanwhile
_AT_ONCE = 4  # rows
_LEASE = Retries().lease
_UNLESS_DONE = 20.0  # seconds until a job does it
_FILES_AFTER = 5.0  # seconds until the recordings go, when the switch has made its copies of most messages

Results = dict[UUID, VoicemailError | None]  # None: it is in the trash


class ManyToTrash:
    """Moves many messages to the trash."""

    def __init__(
        self,
        *,
        pool: Pool,
        switch: Switch,
        jobs: Jobs,
        claims: Claims,
        storage: RecordingStorage,
        folder: TrashFolder,
        removal: Removal,
        phones: PhoneUpdates,
        lease: float = _LEASE,
        files_after: float = _FILES_AFTER,
    ) -> None:
        """``lease``: seconds for which a try is left alone in case its process died; ``files_after``: until the recordings go."""
        self._pool, self._switch_pool = pool, switch.pool
        self._jobs, self._claims = jobs, claims
        self._storage, self._folder = storage, folder
        self._removal, self._phones = removal, phones
        self._lease, self._files_after = lease, files_after

    async def delete(self, messages: Sequence[Message], entries: Sequence[AuditEntry]) -> Results:
        """Move the messages to the trash, each with its audit entry; what became of each."""
        results: Results = {}
        with self._phones.together():
            for start in range(0, len(messages), _CHUNK):
                chunk = list(messages[start : start + _CHUNK])
                try:
                    results |= await self._delete(chunk, entries[start : start + _CHUNK])
                except (DatabaseFailed, Unavailable) as error:
                    later = Unavailable(f"it is not deleted yet: {error.detail}")
                    results |= {message.id: later for message in chunk}
                except OSError as error:
                    later = Unavailable(f"it is not deleted yet: {file_and_reason(error)}")
                    results |= {message.id: later for message in chunk}
                self._phones.soon(_mailboxes(chunk))
        return results

    async def _delete(self, chunk: list[Message], entries: Sequence[AuditEntry]) -> Results:
        obstacles = await asyncio.to_thread(self._obstacles, chunk)
        free = [message for message in chunk if message.id not in obstacles]
        audited = [entry for message, entry in zip(chunk, entries, strict=True) if message.id not in obstacles]
        async with self._pool.acquire() as connection, connection.transaction():
            await audit.insert(connection, audited)
            asked = await removals.ask_many_now(connection, [message.id for message in free], TRASH)
            queued = [(str(one), job_key(one, 0), _UNLESS_DONE) for one in asked.values()]
            await self._jobs.enqueue_many(connection, REMOVE, queued)
            await self._phones.ask(connection, _mailboxes(free))
        async with self._claims.hold_many(asked.values()) as ours:
            async with self._pool.acquire() as connection:
                begun = await removals.begin_many(connection, list(ours), self._lease)
            gone = await self._take([one for one in free if asked.get(one.id) in begun], asked)
        results: Results = dict(obstacles)
        for message in free:
            results[message.id] = None if message.id in gone else await self._alone(message)
        return results

    def _obstacles(self, messages: Sequence[Message]) -> dict[UUID, VoicemailError | None]:
        found: Results = {}
        for message in messages:
            key = self._storage.paths.relative(message.file_path)
            if key is not None and (obstacle := self._storage.obstacle(key)):
                found[message.id] = Unavailable(f"the message was not deleted: {obstacle}")
        return found

    async def _take(self, messages: Sequence[Message], asked: dict[UUID, UUID]) -> set[UUID]:
        """Copy the messages, then delete their rows; which are in the trash now. The next try of the others is at once."""
        copied = await self._copy(messages)
        async with self._pool.acquire() as connection:
            begun = [asked[id_] for id_ in copied]
            await removals.advance_many(connection, begun, RemovalState.DELETING, delay=self._lease)
        turn = asyncio.Semaphore(_AT_ONCE)
        gone: dict[UUID, bool] = {}

        async def take(message: Message) -> None:
            async with turn, self._switch_pool.acquire() as connection:
                done = await changes.take(connection, message.row, copied[message.id])
            if done.gone:
                gone[message.id] = done.shares_file

        try:
            async with asyncio.TaskGroup() as tasks:
                for message in messages:
                    if message.id in copied:
                        tasks.create_task(take(message))
        except* (DatabaseFailed, Unavailable):
            pass  # those that are not known to be gone are tried alone
        await self._note(messages, asked, gone)
        return set(gone)

    async def _note(self, messages: Sequence[Message], asked: dict[UUID, UUID], gone: dict[UUID, bool]) -> None:
        shared = [asked[id_] for id_, shares in gone.items() if shares]
        own = [asked[id_] for id_, shares in gone.items() if not shares]
        others = [asked[message.id] for message in messages if message.id not in gone]
        async with self._pool.acquire() as connection, connection.transaction():
            await removals.advance_many(connection, own, RemovalState.ROW_GONE, delay=self._files_after)
            await removals.advance_many(connection, shared, RemovalState.FILE_GONE, SHARED, delay=self._files_after)
            await removals.again(connection, others)
            await store.keep_many(connection, list(gone))
            queued = [(str(one), job_key(one, 1), self._files_after) for one in (*own, *shared)]
            await self._jobs.enqueue_many(connection, REMOVE, queued)

    async def _copy(self, messages: Sequence[Message]) -> dict[UUID, list[WholeRow]]:
        """Keep the messages aside; the copied rows of each that is there."""
        async with self._switch_pool.acquire() as connection:
            rows = await changes.copies_of_uuids(connection, [message.uuid for message in messages if message.uuid])
        by_key: dict[bytes, list[WholeRow]] = {}
        for row in rows:
            by_key.setdefault(row.row.key, []).append(row)
        copied = {message.id: by_key[message.row.key] for message in messages if message.row.key in by_key}
        keys = {message.id: self._storage.paths.relative(message.file_path) for message in messages}
        names: dict[UUID, str] = {}
        async with self._pool.acquire() as connection, connection.transaction():
            for id_, whole in copied.items():
                key = keys[id_]
                names[id_] = await store.copy(connection, id_, whole[0], name_for(key) if key else "")
        filed = await asyncio.to_thread(self._keep, [(id_, keys[id_], name) for id_, name in names.items()])
        async with self._pool.acquire() as connection:
            await store.filed_many(connection, filed)
        return copied

    def _keep(self, wanted: Sequence[tuple[UUID, str | None, str]]) -> list[tuple[UUID, str, int | None]]:
        filed: list[tuple[UUID, str, int | None]] = []
        for id_, key, name in wanted:
            try:
                filed.append((id_, name, self._folder.keep(key, name, sync=False)) if key else (id_, name, None))
            except NotFound:  # a message whose recording is gone can be deleted all the same
                filed.append((id_, "", None))
        self._folder.sync()
        return filed

    async def _alone(self, message: Message) -> VoicemailError | None:
        """As a single deletion: it waits for what is under way."""
        async with self._pool.acquire() as connection, connection.transaction():
            removal_id = await self._removal.ask_now(connection, message.id, TRASH)
        try:
            await self._removal.delete_now(message.id, removal_id, TRASH)
        except (NotFound, Unavailable) as error:
            return error
        return None


def _mailboxes(messages: Sequence[Message]) -> set[MailboxAddress]:
    return {address for message in messages if (address := mailbox_of(message.domain, message.extension))}
