"""The messages of one domain, as the switch has them at this moment."""

from pathlib import Path
from uuid import UUID

from app.access.grant import Grant
from app.addressing import Domain, Extension
from app.database.pool import Pool
from app.errors import Invalid, NotFound
from app.messages import records, store
from app.messages.model import Message, MessageRow, readable, uuid_in
from app.messages.recorder import Recorder
from app.recordings.paths import RecordingPaths


class Messages:
    """Reads messages; never changes one."""

    def __init__(self, pool: Pool, switch_pool: Pool, recorder: Recorder, paths: RecordingPaths, domain: Domain) -> None:
        self._pool = pool
        self._switch_pool = switch_pool
        self._recorder = recorder
        self._paths = paths
        self._domain = domain

    async def page(
        self, grant: Grant, extension: Extension | None = None, *, limit: int = 10, offset: int = 0
    ) -> tuple[list[Message], int]:
        """Messages newest first, of all mailboxes or of one, and how many there are in all."""
        if not grant.allows(self._domain):
            return [], 0
        async with self._switch_pool.acquire() as connection:
            rows, total = await store.page(connection, self._domain, extension, limit=limit, offset=offset)
        return await self._of_rows(rows), total

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
        async with self._pool.acquire() as connection:
            record = await records.find(connection, id_)
        async with self._switch_pool.acquire() as connection:
            if record is not None:
                row = await store.with_key(connection, record.key, uuid=record.uuid, username=record.username)
                rows = [row] if row else []
            else:  # not recorded yet, perhaps
                rows = await store.with_uuids(connection, [str(id_), str(id_).upper()])
        return next((message for message in await self._of_rows(rows) if message.id == id_), None)

    def audio(self, message: Message) -> Path:
        """The recording's file on this machine. Raises ``NotFound`` where it is gone or outside the recordings folder."""
        path = self._paths.local(message.file_path)
        try:
            there = path.is_file()
        except OSError:
            there = False
        if not there:
            name = readable(message.file_path).rsplit("/", 1)[-1]
            raise NotFound(f"the recording's file {name!r} is gone")
        return path

    async def _newest(self, key: str) -> Message | None:
        try:
            extension = Extension.parse(key)
        except Invalid:
            return None
        async with self._switch_pool.acquire() as connection:
            row = await store.newest(connection, self._domain, extension)
        return (await self._of_rows([row]))[0] if row else None

    async def _of_rows(self, rows: list[MessageRow]) -> list[Message]:
        """The messages of rows; those that nobody met before are recorded now."""
        if not rows:
            return []
        async with self._pool.acquire() as connection:
            found = await records.messages(connection, rows)
        missing = [row for row, message in zip(rows, found, strict=True) if message is None]
        if missing:
            await self._recorder.record(missing)
            async with self._pool.acquire() as connection:
                found = await records.messages(connection, rows)
        return [message for message in found if message is not None]
