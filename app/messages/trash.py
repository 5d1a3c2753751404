"""The trash: what was deleted, for as long as it can be restored. ``removal`` brings messages here; this gives them back.

At each moment a message is in its mailbox or here. It is copied before its row is deleted, and forgotten after its row is back.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from uuid import UUID, uuid4

import structlog

from app.access.audit import store as audit
from app.access.audit.model import AuditEntry
from app.access.grant import Reach
from app.addressing import MailboxAddress
from app.database.pool import Connection, Pool
from app.database.readers import Readers
from app.errors import NotFound, Unavailable, file_and_reason
from app.messages import removal_store as removals
from app.messages import trash_store as store
from app.messages.model import RecordingState
from app.messages.phone_updates import PhoneUpdates, mailbox_of
from app.messages.removal import Removal
from app.messages.trash_store import Trashed, TrashLine
from app.recordings.storage import RecordingMissing, RecordingStorage
from app.recordings.trash import TrashFolder, name_for
from app.switch.switch import Switch
from app.switch.tables import changes
from app.switch.tables.changes import WholeRow
from app.switch.tables.model import MessageRow

log = structlog.get_logger(__name__)

TRASH = "trash"  # the reason for which a message is moved here
_ABSENT = "there is no such message in the trash"
_LOOKS, _LOOK = 40, 0.05  # seconds between two looks at what another process does


class TrashAside:
    """Keeps a message here before its row is deleted."""

    def __init__(self, pool: Pool, switch_pool: Pool, storage: RecordingStorage, folder: TrashFolder) -> None:
        self._pool, self._switch_pool = pool, switch_pool
        self._storage, self._folder = storage, folder

    async def put(self, message_id: UUID, row: MessageRow) -> list[WholeRow]:
        """Copy the row and keep its recording; the copied rows, none if the message is gone. Raises ``OSError``."""
        async with self._switch_pool.acquire() as connection:
            copied = await changes.copies(connection, row)
        if not copied:
            return []
        key = self._storage.paths.relative(row.file_path)
        async with self._pool.acquire() as connection:
            name = await store.copy(connection, message_id, copied[0], "" if key is None else name_for(key))
        size: int | None = None
        if key is not None:
            try:
                size = await asyncio.to_thread(self._folder.keep, key, name)
            except NotFound:  # a message whose recording is gone can be deleted and restored all the same
                name = ""
        async with self._pool.acquire() as connection:
            await store.filed(connection, message_id, name, size)
        return copied

    async def dropped(self, message_id: UUID) -> None:
        """Forget the copy of a message that this service did not delete."""
        async with self._pool.acquire() as connection:
            name = await store.drop(connection, message_id)
        if name:
            await asyncio.to_thread(self._folder.remove, name)

    async def kept(self, connection: Connection, message_id: UUID) -> None:
        """Note that the row is deleted."""
        await store.keep(connection, message_id)


@dataclass(frozen=True, slots=True)
class Restoring:
    """A message that is being put back."""

    id: UUID
    file: str  # in the trash folder
    whole: WholeRow  # with the place that the recording gets

    @property
    def mailbox(self) -> set[MailboxAddress]:
        """The mailbox, if phones can have it."""
        address = mailbox_of(self.whole.domain or "", self.whole.username or "")
        return {address} if address else set()


class Trash:
    """The messages in the trash; one instance a process, many processes at once."""

    def __init__(
        self,
        *,
        pool: Pool,
        readers: Readers,
        switch: Switch,
        storage: RecordingStorage,
        folder: TrashFolder,
        removal: Removal,
        phones: PhoneUpdates,
        days: int,
    ) -> None:
        """``days``: how long a message of a domain without days of its own is kept."""
        self._pool, self._readers, self._switch_pool = pool, readers, switch.pool
        self._storage, self._folder = storage, folder
        self._removal, self._phones, self._days = removal, phones, days

    async def page(self, reach: Reach, *, limit: int, offset: int) -> tuple[list[TrashLine], int]:
        """Messages in the trash, newest first, and how many there are."""
        return await store.page(self._readers, reach, self._days, limit=limit, offset=offset)

    def states(self, lines: Sequence[TrashLine]) -> dict[str, RecordingState]:
        """Whether the recordings of these messages are in the trash, by the messages' ids. Blocks."""
        there = {line.file: self._folder.exists(line.file) for line in lines if line.file}
        return {line.id: RecordingState.READY if there.get(line.file) else RecordingState.MISSING for line in lines}

    async def find(self, message_id: UUID, reach: Reach) -> Trashed:
        """A message in the trash. Raises ``NotFound``."""
        async with self._pool.acquire() as connection:
            found = await store.find(connection, message_id, reach)
        if found is None:
            raise NotFound(_ABSENT)
        return found

    async def restore(self, message_id: UUID, entries: list[AuditEntry]) -> None:
        """Put a message back into its mailbox, as it was. Raises ``NotFound``, and ``Unavailable``: then it is tried again later.

        ``entries`` are audited before anything is done.
        """
        for _ in range(_LOOKS):
            # A removal whose file still waits must not remove it while the message comes back.
            async with self._removal.stopped(message_id, TRASH) as stopped:
                if stopped:
                    await self._restore(message_id, entries)
                    return
            await asyncio.sleep(_LOOK)
        raise Unavailable("the message is being deleted in this moment")

    async def _restore(self, message_id: UUID, entries: list[AuditEntry]) -> None:
        restoring = await self._begin(message_id, entries)
        restoring = await self._put_recording(restoring)
        async with self._switch_pool.acquire() as connection:
            await changes.put_back(connection, restoring.whole)
        self._phones.soon(restoring.mailbox)
        async with self._pool.acquire() as connection, connection.transaction():
            await store.restored(connection, message_id)
            await removals.forget(connection, message_id, TRASH)
        if restoring.file:
            await asyncio.to_thread(self._folder.remove, restoring.file)
        log.info("message_restored", message=str(message_id))

    async def _begin(self, message_id: UUID, entries: list[AuditEntry]) -> Restoring:
        async with self._pool.acquire() as connection, connection.transaction():
            found = await store.lock(connection, message_id)
            if found is None:
                raise NotFound(_ABSENT)
            await removals.stop(connection, message_id, TRASH)
            restoring = Restoring(message_id, found.file, found.whole)
            await audit.insert(connection, entries)
            await self._phones.ask(connection, restoring.mailbox)
            await store.restoring(connection, message_id, found.whole.file_path or "")
        return restoring

    async def _put_recording(self, restoring: Restoring) -> Restoring:
        """Move the recording to its place, or to one beside it if that is taken."""
        key = self._storage.paths.relative(restoring.whole.file_path or "")
        if key is None or not restoring.file:
            return restoring
        try:
            if await asyncio.to_thread(self._folder.put_back, restoring.file, key):
                return restoring
        except RecordingMissing as error:  # its row comes back all the same, as it would be if the file had gone in the mailbox
            log.warning("restored_without_recording", message=str(restoring.id), reason=error.detail)
            return restoring
        except OSError as error:
            raise Unavailable(f"the recording cannot be put back: {file_and_reason(error)}") from error
        beside = PurePosixPath(key).with_name(f"msg_{uuid4()}{PurePosixPath(key).suffix}")
        whole = restoring.whole._replace(file_path=self._storage.paths.on_switch(str(beside)))
        async with self._pool.acquire() as connection, connection.transaction():
            await store.moved(connection, restoring.id, whole.row, str(beside))
            await store.restoring(connection, restoring.id, whole.file_path or "")
        return await self._put_recording(replace(restoring, whole=whole))

    async def go_on(self) -> None:
        """Finish what a process that died was restoring."""
        async with self._pool.acquire() as connection:
            unfinished = await store.unfinished(connection)
        for message_id in unfinished:
            try:
                await self.restore(message_id, [])
            except NotFound:
                continue  # another process did it
            except Unavailable as error:
                log.warning("restoring_waits", message=str(message_id), reason=error.detail)

    async def purge(self, message_id: UUID, entries: list[AuditEntry]) -> tuple[str, int]:
        """Remove a message for good, row and recording together; the recording's name and size. Raises ``NotFound``.

        If the recording cannot be removed, nothing is: ``Unavailable``.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            purged = await store.purge(connection, message_id)
            if purged is None:
                raise NotFound(_ABSENT)
            await audit.insert(connection, entries)
            if purged[0]:
                try:
                    await asyncio.to_thread(self._folder.remove, purged[0])
                except OSError as error:
                    raise Unavailable(f"the recording cannot be removed: {file_and_reason(error)}") from error
        log.info("trash_purged", message=str(message_id), recording=purged[0], size=purged[1])
        return purged
