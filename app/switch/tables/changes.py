"""SQL that changes exactly one row of ``voicemail_msgs``: its marks, its removal as it was copied before, and its return.

The very same row twice is one message, so both are changed. A row that a phone flagged deleted is as if it were gone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from app.database.pool import Connection
from app.switch.tables.messages import SAME, RowRemoval, reading_table
from app.switch.tables.model import MessageRow

_LIVE = "flags IS DISTINCT FROM 'delete'"
_ALL = """created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path, message_len, flags,
    read_flags, forwarded_by"""
# A message that was read keeps the time at which it was read first. The clock is the switch's database's.
MARK = f"""
UPDATE voicemail_msgs SET
    read_epoch = CASE WHEN $5::boolean IS NULL THEN read_epoch WHEN NOT $5 THEN 0
        WHEN coalesce(read_epoch, 0) > 0 THEN read_epoch ELSE floor(extract(epoch FROM clock_timestamp()))::integer END,
    flags = CASE WHEN $6::boolean IS NULL THEN flags WHEN $6 THEN 'save' ELSE '' END
WHERE {SAME} AND {_LIVE}
"""  # noqa: S608 - constants of this module
COPY = f"SELECT {_ALL} FROM voicemail_msgs WHERE {SAME} AND {_LIVE}"  # noqa: S608
COPIES = f"SELECT {_ALL} FROM voicemail_msgs WHERE uuid = ANY($1::text[]) AND {_LIVE}"  # noqa: S608
# What a phone changed since the row was copied is not deleted: then the copy is made again.
TAKE = f"""
WITH taken AS (
    DELETE FROM voicemail_msgs
    WHERE {SAME} AND coalesce(read_epoch, 0) = ANY($5::integer[]) AND coalesce(flags, '') = ANY($6::text[]) RETURNING 1
)
SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM voicemail_msgs WHERE {SAME}),
    EXISTS (SELECT FROM voicemail_msgs WHERE file_path = $4 AND ({SAME}) IS NOT TRUE)
"""  # noqa: S608
PUT_BACK = f"""
INSERT INTO voicemail_msgs ({_ALL})
SELECT $5::integer, $6::integer, $7::text, $8::text, $9::text, $10::text, $11::text, $12::text, $13::text, $14::integer,
    $15::text, $16::text, $17::text
WHERE NOT EXISTS (SELECT FROM voicemail_msgs WHERE {SAME})
"""  # noqa: S608


class WholeRow(NamedTuple):
    """All columns of a row, as they are."""

    created_epoch: int | None
    read_epoch: int | None
    username: str | None
    domain: str | None
    uuid: str | None
    caller_name: str | None
    caller_number: str | None
    in_folder: str | None
    file_path: str | None
    duration: int | None
    flags: str | None
    read_flags: str | None
    forwarded_by: str | None

    @property
    def row(self) -> MessageRow:
        """The same as the rest of the service reads it."""
        return MessageRow(
            self.domain or "", self.username or "", self.uuid or "", self.file_path or "", self.caller_name or "",
            self.caller_number or "", self.created_epoch or 0, self.read_epoch or 0, self.duration or 0, self.flags or "",
            self.read_flags or "", self.forwarded_by or "",
        )  # fmt: skip


async def mark(connection: Connection, row: MessageRow, *, read: bool | None, saved: bool | None) -> bool:
    """Mark this row and no other one; None leaves a mark as it is. False if the row is gone."""
    with reading_table():
        status = await connection.execute(MARK, *row[:4], read, saved)
    return bool(status != "UPDATE 0")


async def copies(connection: Connection, row: MessageRow) -> list[WholeRow]:
    """The row as it is now, the one that was heard latest first if it is there twice; empty if it is gone."""
    with reading_table():
        found = [WholeRow._make(record) for record in await connection.fetch(COPY, *row[:4])]
    return sorted(found, key=lambda one: (one.read_epoch or 0, one.flags or ""), reverse=True)


async def copies_of_uuids(connection: Connection, uuids: Sequence[str]) -> list[WholeRow]:
    """Every row with one of these uuids that no phone flagged deleted; of the very same row, the one heard latest first."""
    with reading_table():
        found = [WholeRow._make(record) for record in await connection.fetch(COPIES, uuids)]
    return sorted(found, key=lambda one: (one.read_epoch or 0, one.flags or ""), reverse=True)


async def take(connection: Connection, row: MessageRow, copied: Sequence[WholeRow]) -> RowRemoval:
    """Delete this row if it still is as it was copied."""
    with reading_table():
        taken, listed, shares_file = await connection.fetchrow(
            TAKE, *row[:4], [one.read_epoch or 0 for one in copied], [one.flags or "" for one in copied]
        )
    return RowRemoval(gone=taken > 0 and taken == listed, heard=False, shares_file=shares_file)


async def put_back(connection: Connection, whole: WholeRow) -> bool:
    """Insert the row unless it is there; whether it was inserted. Two at once wait for each other."""
    with reading_table():
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", whole.file_path or "")
            status = await connection.execute(PUT_BACK, *whole.row[:4], *whole)
    return bool(status != "INSERT 0 0")
