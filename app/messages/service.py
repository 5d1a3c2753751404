"""The messages, as the switch has them at this moment.

A token of every domain also sees the messages of domains that this service does not host; nobody else does, and nobody is mailed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from app.access.grant import Grant, Reach
from app.access.scopes import EVERY
from app.addressing import Extension
from app.database.readers import Readers
from app.errors import Invalid, NotFound
from app.messages import pages
from app.messages import store as records
from app.messages.model import Message, RecordingState
from app.messages.pages import Lines
from app.messages.registry import Registry
from app.messages.unindexed import Unindexed
from app.recordings.storage import RecordingStorage
from app.switch.tables import messages as store
from app.switch.tables.model import MessageRow, uuid_in

_ABSENT = "there is no such message"
_NO_DOMAIN = "there is no such domain"


class Messages:
    """Reads messages; never changes one."""

    def __init__(self, readers: Readers, switch_readers: Readers, registry: Registry, storage: RecordingStorage) -> None:
        """``readers`` and ``switch_readers`` are the same if the switch's tables are in our database."""
        self._readers = readers
        self._switch_readers = switch_readers
        self._registry = registry
        self._unindexed = Unindexed(storage)

    async def page(
        self, grant: Grant, extension: Extension | None = None, *, domain: str | None = None, limit: int = 10, offset: int = 0
    ) -> Lines:
        """Messages newest first, of all mailboxes or of one, and how many there are in all.

        They are those of ``domain`` (``*``: of all the grant's domains), or of the grant's default one. Raises ``NotFound``.
        """
        lines = await self._page(grant.reach(domain, extension, absent=_NO_DOMAIN), limit=limit, offset=offset)
        lines = await self.with_states(lines)
        if lines.total or grant.domains is not None or domain in (None, "", EVERY):
            return lines
        if not await records.hosts(self._readers, domain):
            raise NotFound(_NO_DOMAIN)
        return lines

    async def with_states(self, lines: Lines) -> Lines:
        """The same lines with the states of the recordings that the index does not have."""
        not_indexed = lines.not_indexed
        return replace(lines, unread=await self._unindexed.states(not_indexed)) if not_indexed else lines

    async def find(self, grant: Grant, key: str, *, domain: str | None = None) -> Message:
        """The message with this id, else the newest of the mailbox with this extension. Raises ``NotFound``.

        An id is looked up in all of the grant's domains unless ``domain`` names one; an extension in that one or the default one.
        """
        id_ = uuid_in(key)
        if id_ is None:
            found = await self._newest(grant, key, domain)
        else:
            found = await self._live(id_, grant.reach(domain or EVERY, absent=_ABSENT))
        if found is None or found.flagged_deleted:
            raise NotFound(_ABSENT)
        return found

    async def find_many(self, grant: Grant, ids: Sequence[UUID], *, domain: str | None = None) -> dict[UUID, Message]:
        """Those of the messages with these ids that ``find`` would find, in few statements. Raises ``NotFound``."""
        reach = grant.reach(domain or EVERY, absent=_ABSENT)
        known = await records.find_many(self._readers, ids, reach)
        keys = {record.key for record in known.values()}
        uuids = [record.uuid for record in known.values() if uuid_in(record.uuid)]
        rows = [row for row in await store.with_uuids(self._switch_readers, uuids) if row.key in keys]
        for record in known.values():
            if not uuid_in(record.uuid):
                row = await store.with_key(self._switch_readers, record.key, uuid=record.uuid, username=record.username)
                rows += [row] if row else []
        if unknown := [id_ for id_ in ids if id_ not in known]:
            texts = [text for id_ in unknown for text in (str(id_), str(id_).upper())]
            rows += await store.with_uuids_within(self._switch_readers, texts, reach.domains, reach.extension)
        wanted = set(ids)
        found = await self.of_rows(list({row.key: row for row in rows}.values()))
        return {message.id: message for message in found if message.id in wanted and not message.flagged_deleted}

    async def state(self, message: Message) -> RecordingState:
        """The state of a message's recording at this moment."""
        there = await asyncio.to_thread(self._unindexed.look, message.file_path)
        if message.recording is None or there is RecordingState.MISSING:
            return there
        return RecordingState.READY if message.recording.whole else RecordingState.DAMAGED

    async def _page(self, reach: Reach, *, limit: int, offset: int) -> Lines:
        if self._switch_readers is self._readers:
            found = await pages.page(self._readers, reach.domains, reach.extension, limit=limit, offset=offset)
            if found.complete:
                return found
        rows, total = await store.page(self._switch_readers, reach.domains, reach.extension, limit=limit, offset=offset)
        lines = [pages.line(message, total) for message in await self.of_rows(rows)]
        return Lines(lines, total, last=pages.following(lines, limit, offset, total))

    async def _live(self, id_: UUID, reach: Reach) -> Message | None:
        """The message with this id while its row is on the switch, flagged deleted or not.

        The statements themselves leave out what is out of reach: a foreign message takes the same ones as an absent message.
        """
        record = await records.find(self._readers, id_, reach)
        if record is not None:
            row = await store.with_key(self._switch_readers, record.key, uuid=record.uuid, username=record.username)
            rows = [row] if row else []
        else:  # not recorded yet, perhaps
            uuids = [str(id_), str(id_).upper()]
            rows = await store.with_uuids_within(self._switch_readers, uuids, reach.domains, reach.extension)
        return next((message for message in await self.of_rows(rows) if message.id == id_), None)

    async def _newest(self, grant: Grant, key: str, domain: str | None) -> Message | None:
        reach = grant.reach(domain, absent=_ABSENT)
        try:
            extension = Extension.parse(key)
        except Invalid:
            return None
        reach = grant.reach(domain, extension)
        row = await store.newest(self._switch_readers, reach.domains, extension)
        return (await self.of_rows([row]))[0] if row else None

    async def of_rows(self, rows: list[MessageRow]) -> list[Message]:
        """The messages of the rows. Rows without an id are recorded now."""
        if not rows:
            return []
        found = await records.messages(self._readers, rows)
        missing = [row for row, message in zip(rows, found, strict=True) if message is None]
        if missing:
            await self._registry.record(missing)
            found = await records.messages(self._readers, rows)
        return [message for message in found if message is not None]
