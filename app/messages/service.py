"""The messages of one domain, as the switch has them at this moment."""

import asyncio
from uuid import UUID

from app.access.grant import Grant
from app.addressing import Domain, Extension
from app.database.readers import Readers
from app.errors import Invalid, NotFound
from app.messages import pages
from app.messages import store as records
from app.messages.model import Message
from app.messages.pages import Lines
from app.messages.registry import Registry
from app.recordings.storage import OpenRecording, RecordingStorage
from app.switch.tables import messages as store
from app.switch.tables.model import MessageRow, uuid_in


class Messages:
    """Reads messages; never changes one."""

    def __init__(
        self, readers: Readers, switch_readers: Readers, registry: Registry, storage: RecordingStorage, domain: Domain
    ) -> None:
        """``readers`` and ``switch_readers`` are the same if the switch's tables are in our database."""
        self._readers = readers
        self._switch_readers = switch_readers
        self._registry = registry
        self._storage = storage
        self._domain = domain

    async def page(self, grant: Grant, extension: Extension | None = None, *, limit: int = 10, offset: int = 0) -> Lines:
        """Messages newest first, of all mailboxes or of one, and how many there are in all."""
        if not grant.allows(self._domain):
            return Lines((), 0)
        if self._switch_readers is self._readers:
            found = await pages.page(self._readers, self._domain, extension, limit=limit, offset=offset)
            if found.complete:
                return found
        rows, total = await store.page(self._switch_readers, self._domain, extension, limit=limit, offset=offset)
        return Lines([pages.line(message, total) for message in await self._of_rows(rows)], total)

    async def find(self, grant: Grant, key: str) -> Message:
        """The message with this id, else the newest of the mailbox with this extension. Raises ``NotFound``."""
        id_ = uuid_in(key)
        found = await self.live(id_) if id_ else None
        if found is None or found.domain != self._domain or found.flagged_deleted:
            found = await self._newest(key)
        if found is None or not grant.allows(self._domain):
            raise NotFound("there is no such message")
        return found

    async def live(self, id_: UUID) -> Message | None:
        """The message with this id while its row is on the switch, in any domain, flagged deleted or not."""
        record = await records.find(self._readers, id_)
        if record is not None:
            row = await store.with_key(self._switch_readers, record.key, uuid=record.uuid, username=record.username)
            rows = [row] if row else []
        else:  # not recorded yet, perhaps
            rows = await store.with_uuids(self._switch_readers, [str(id_), str(id_).upper()])
        return next((message for message in await self._of_rows(rows) if message.id == id_), None)

    async def audio(self, message: Message) -> OpenRecording:
        """The recording, open: the caller closes it. Raises ``NotFound`` if it is gone or outside the recordings folder."""
        return await asyncio.to_thread(lambda: self._storage.open(self._storage.key(message.file_path)))

    async def _newest(self, key: str) -> Message | None:
        try:
            extension = Extension.parse(key)
        except Invalid:
            return None
        row = await store.newest(self._switch_readers, self._domain, extension)
        return (await self._of_rows([row]))[0] if row else None

    async def _of_rows(self, rows: list[MessageRow]) -> list[Message]:
        """The messages of rows; those that nobody met before are recorded now."""
        if not rows:
            return []
        found = await records.messages(self._readers, rows)
        missing = [row for row, message in zip(rows, found, strict=True) if message is None]
        if missing:
            await self._registry.record(missing)
            found = await records.messages(self._readers, rows)
        return [message for message in found if message is not None]
