"""SQL over ``voicemail.trash``: the messages that were deleted and can be restored. All times are the database's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.access.grant import Reach
from app.database.pool import Connection
from app.database.readers import Source
from app.switch.tables.changes import WholeRow
from app.switch.tables.model import MessageRow, readable

_ROW = """created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path, message_len, flags,
    read_flags, forwarded_by"""
_TROW = ", ".join(f"t.{name.strip()}" for name in _ROW.split(","))
# A message may come to the trash again while an earlier visit is not cleared away yet.
COPY = f"""
INSERT INTO voicemail.trash (message_id, state, file, {_ROW})
VALUES ($1, 'moving', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (message_id) DO UPDATE SET state = 'moving', deleted_at = now(), size = NULL,
    file = CASE WHEN trash.state = 'moving' AND trash.file <> '' THEN trash.file ELSE excluded.file END,
    created_epoch = excluded.created_epoch, read_epoch = excluded.read_epoch, username = excluded.username,
    domain = excluded.domain, uuid = excluded.uuid, cid_name = excluded.cid_name, cid_number = excluded.cid_number,
    in_folder = excluded.in_folder, file_path = excluded.file_path, message_len = excluded.message_len,
    flags = excluded.flags, read_flags = excluded.read_flags, forwarded_by = excluded.forwarded_by
RETURNING file
"""  # noqa: S608 - constants of this module
FILED = "UPDATE voicemail.trash SET file = $2, size = $3 WHERE message_id = $1 AND state = 'moving'"
DROP = "DELETE FROM voicemail.trash WHERE message_id = $1 AND state = 'moving' RETURNING file"
KEEP = "UPDATE voicemail.trash SET state = 'kept' WHERE message_id = $1 AND state = 'moving'"
KEEP_MANY = "UPDATE voicemail.trash SET state = 'kept' WHERE message_id = ANY($1::uuid[]) AND state = 'moving'"
FILED_MANY = """
UPDATE voicemail.trash t SET file = f.file, size = f.size
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS f (id, file, size) WHERE t.message_id = f.id AND t.state = 'moving'
"""
_REACH = "($2::text[] IS NULL OR m.domain = ANY($2)) AND ($3::text IS NULL OR m.username = $3)"
FIND = f"""
SELECT t.message_id, t.state, t.file, {_TROW} FROM voicemail.trash t JOIN voicemail.message m ON m.id = t.message_id
WHERE t.message_id = $1 AND {_REACH}
"""  # noqa: S608
LOCK = f"""
SELECT t.message_id, t.state, t.file, {_TROW} FROM voicemail.trash t WHERE t.message_id = $1 FOR UPDATE
"""  # noqa: S608
RESTORING = "UPDATE voicemail.trash SET state = 'restoring', file_path = $2 WHERE message_id = $1"
RESTORED = "DELETE FROM voicemail.trash WHERE message_id = $1 AND state = 'restoring'"
# The message gets another place on the disk, and so another key, before its row comes back: so it is no news then.
MOVED = "UPDATE voicemail.message SET row_key = $2, file_path = $3, recording = $4 WHERE id = $1"
UNFINISHED = "SELECT message_id FROM voicemail.trash WHERE state = 'restoring' ORDER BY deleted_at LIMIT 100"
_ENDS = "t.deleted_at + make_interval(days => coalesce(d.trash_days, {days}))"
# Those that are on their way are shown too: their row may be deleted already.
PAGE = f"""
SELECT c.total, p.* FROM (
    SELECT count(*) AS total FROM voicemail.trash t JOIN voicemail.message m ON m.id = t.message_id
    WHERE ($1::text[] IS NULL OR m.domain = ANY($1)) AND ($2::text IS NULL OR m.username = $2)
) c LEFT JOIN LATERAL (
    SELECT t.message_id, t.deleted_at, {_ENDS.format(days="$5::integer")}, t.size, coalesce(b.time_zone, d.time_zone),
        n.state, t.file, {_TROW}
    FROM voicemail.trash t JOIN voicemail.message m ON m.id = t.message_id
    LEFT JOIN voicemail.domain d ON d.name = m.domain
    LEFT JOIN voicemail.mailbox b ON b.domain = m.domain AND b.extension = m.username
    LEFT JOIN voicemail.notification n ON n.message_id = m.id
    WHERE ($1::text[] IS NULL OR m.domain = ANY($1)) AND ($2::text IS NULL OR m.username = $2)
    ORDER BY m.created_epoch DESC, m.id LIMIT $3 OFFSET $4
) p ON true
"""  # noqa: S608
EXPIRED = f"""
SELECT t.message_id FROM voicemail.trash t JOIN voicemail.message m ON m.id = t.message_id
LEFT JOIN voicemail.domain d ON d.name = m.domain
WHERE t.state = 'kept' AND {_ENDS.format(days="$1::integer")} <= now()
ORDER BY t.deleted_at LIMIT $2
"""  # noqa: S608
PURGE = "DELETE FROM voicemail.trash WHERE message_id = $1 AND state = 'kept' RETURNING file, coalesce(size, 0)"
NAMED = "SELECT file FROM voicemail.trash WHERE file = ANY($1::text[])"


@dataclass(frozen=True, slots=True)
class Trashed:
    """A message in the trash, with what is needed to restore it."""

    id: UUID
    state: str
    file: str
    whole: WholeRow


@dataclass(frozen=True, slots=True)
class TrashLine:
    """A message in the trash as a list shows it."""

    id: str
    deleted_at: datetime
    ends_at: datetime  # when it is removed for good
    size: int | None
    time_zone: str | None
    mail: str | None
    file: str  # its name in the trash folder; empty: there is no recording
    row: MessageRow


async def copy(connection: Connection, message_id: UUID, whole: WholeRow, name: str) -> str:
    """Copy a row before it is deleted; the name for its recording: ``name``, or that of an attempt before."""
    return str(await connection.fetchval(COPY, message_id, name, *_bytes(whole)))


async def filed(connection: Connection, message_id: UUID, name: str, size: int | None) -> None:
    """Note the recording in the trash; without a name there is none."""
    await connection.execute(FILED, message_id, name, size)


async def filed_many(connection: Connection, filed: Sequence[tuple[UUID, str, int | None]]) -> None:
    """Note several recordings in the trash: of each its message, its name and its size."""
    await connection.execute(FILED_MANY, [one[0] for one in filed], [one[1] for one in filed], [one[2] for one in filed])


async def keep_many(connection: Connection, message_ids: Sequence[UUID]) -> None:
    """Note that the rows of these messages are deleted."""
    await connection.execute(KEEP_MANY, message_ids)


async def drop(connection: Connection, message_id: UUID) -> str:
    """Forget a copy whose row stays or vanished; the name of its recording or ``""``."""
    return await connection.fetchval(DROP, message_id) or ""


async def keep(connection: Connection, message_id: UUID) -> None:
    """Note that the row is deleted: from now on the message is in the trash and nowhere else."""
    await connection.execute(KEEP, message_id)


async def find(source: Source, message_id: UUID, reach: Reach) -> Trashed | None:
    """A message in the trash, if the caller may see it."""
    names = None if reach.domains is None else list(reach.domains)
    return _trashed(await source.fetchrow(FIND, message_id, names, reach.extension))


async def lock(connection: Connection, message_id: UUID) -> Trashed | None:
    """A message in the trash, which nobody else restores or purges until the transaction ends."""
    return _trashed(await connection.fetchrow(LOCK, message_id))


async def restoring(connection: Connection, message_id: UUID, file_path: str) -> None:
    """Note that a message is being restored, and where its recording goes."""
    await connection.execute(RESTORING, message_id, file_path.encode("utf-8", "surrogateescape"))


async def moved(connection: Connection, message_id: UUID, row: MessageRow, recording: str | None) -> None:
    """Note that a message will have another row than before."""
    await connection.execute(MOVED, message_id, row.key, readable(row.file_path), recording and readable(recording))


async def restored(connection: Connection, message_id: UUID) -> None:
    """Forget a message that is back in its mailbox."""
    await connection.execute(RESTORED, message_id)


async def unfinished(connection: Connection) -> list[UUID]:
    """Messages that are being restored."""
    return [UUID(int=row[0].int) for row in await connection.fetch(UNFINISHED)]


async def page(source: Source, reach: Reach, days: int, *, limit: int, offset: int) -> tuple[list[TrashLine], int]:
    """Messages in the trash, the newest first, and how many there are; ``days``: how long those of most domains are kept."""
    names = None if reach.domains is None else list(reach.domains)
    rows = await source.fetch(PAGE, names, reach.extension, limit, offset, days)
    return [_line(row) for row in rows if row[1] is not None], rows[0][0]


async def expired(connection: Connection, days: int, limit: int) -> list[UUID]:
    """Messages whose time in the trash is over, the oldest first."""
    return [UUID(int=row[0].int) for row in await connection.fetch(EXPIRED, days, limit)]


async def purge(connection: Connection, message_id: UUID) -> tuple[str, int] | None:
    """Forget a message for good; the name and size of its recording, which goes with it. None: it is not there."""
    row = await connection.fetchrow(PURGE, message_id)
    return row and (row[0], row[1])


async def named(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of the recordings in the trash folder that belong to a message."""
    return {row[0] for row in await connection.fetch(NAMED, names)}


def _line(row: Any) -> TrashLine:
    _, id_, deleted_at, ends_at, size, time_zone, mail, file = row[:8]
    return TrashLine(str(id_), deleted_at, ends_at, size, time_zone, mail, file, _whole(row[8:]).row)


def _bytes(whole: WholeRow) -> list[int | bytes | None]:
    return [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in whole]


def _whole(values: Sequence[Any]) -> WholeRow:
    return WholeRow._make(
        bytes(value).decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values
    )


def _trashed(row: Any) -> Trashed | None:
    return None if row is None else Trashed(UUID(int=row[0].int), row[1], row[2], _whole(row[3:]))
