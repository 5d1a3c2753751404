"""SQL over ``voicemail.message``: the ids of messages, and a record of every row of the switch that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.access.grant import Reach
from app.database.pool import Connection
from app.database.readers import Source
from app.messages.model import Message, RecordingFacts
from app.switch.tables.model import MessageRow, readable

_LOCK = 0x766F6963656D03  # "voicem", 3: only one process at a time gives ids

_LONGEST = 2000  # bytes; PostgreSQL's index entries hold a third of a page, which is 2700

LOCK = "SELECT pg_advisory_xact_lock($1)"
# Whether a recording of the index holds audio, as ``RecordingFacts.whole`` says.
WHOLE = "(r.damage = '' AND r.duration IS DISTINCT FROM 0)"
_FACTS = """r.size, r.duration, r.codec, r.sha256, r.damage, coalesce(b.time_zone, d.time_zone), n.state
FROM voicemail.message m
LEFT JOIN voicemail.recording r ON r.path = m.recording
LEFT JOIN voicemail.mailbox b ON b.domain = m.domain AND b.extension = m.username
LEFT JOIN voicemail.domain d ON d.name = m.domain
LEFT JOIN voicemail.notification n ON n.message_id = m.id"""
OF_KEYS = f"SELECT m.row_key, m.id, {_FACTS} WHERE m.row_key = ANY($1::bytea[])"
OF_ID = """
SELECT row_key, uuid, username FROM voicemail.message
WHERE id = $1 AND ($2::text[] IS NULL OR domain = ANY($2)) AND ($3::text IS NULL OR username = $3)
"""
OF_IDS = """
SELECT id, row_key, uuid, username FROM voicemail.message
WHERE id = ANY($1::uuid[]) AND ($2::text[] IS NULL OR domain = ANY($2)) AND ($3::text IS NULL OR username = $3)
"""
SEEN = "SELECT row_key FROM voicemail.message WHERE row_key = ANY($1::bytea[])"
TAKEN = "SELECT id FROM voicemail.message WHERE id = ANY($1::uuid[])"
PUT = """
INSERT INTO voicemail.message (id, row_key, domain, username, uuid, file_path, recording, created_epoch,
                               caller_name, caller_number, duration, exact)
SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                     $9::text[], $10::text[], $11::integer[], $12::boolean[])
"""
_LONGEST_CALLER, _LONGEST_DURATION = 255, 2**31 - 1
HOSTS = "SELECT EXISTS (SELECT FROM voicemail.domain WHERE name = $1)"
FACT = "SELECT value FROM voicemail.installation WHERE name = $1"
PUT_FACT = "INSERT INTO voicemail.installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"


@dataclass(frozen=True, slots=True)
class Record:
    """The stored key of a row, to find it again."""

    key: bytes
    uuid: str
    username: str


async def lock(connection: Connection) -> None:
    """Take the lock for giving ids, until this transaction ends."""
    await connection.execute(LOCK, _LOCK)


async def messages(source: Source, rows: Sequence[MessageRow]) -> list[Message | None]:
    """The message of each row, with what is known of its recording; None if the row is not recorded yet."""
    keys = [row.key for row in rows]
    found = {record[0]: record for record in await source.fetch(OF_KEYS, keys)}
    return [_message(row, found[key]) if key in found else None for row, key in zip(rows, keys, strict=True)]


def _message(row: MessageRow, record: Any) -> Message:
    _, id_, size, duration, codec, sha256, damage, zone, mail = record
    facts = None if size is None else RecordingFacts(size, duration, codec, sha256.hex() if sha256 else None, damage)
    return Message(id_, row, facts, zone, mail)


async def find(source: Source, id_: UUID, reach: Reach) -> Record | None:
    """The stored key of an id, if the caller may see it."""
    record = await source.fetchrow(OF_ID, id_, None if reach.domains is None else list(reach.domains), reach.extension)
    return None if record is None else Record(*record)


async def find_many(source: Source, ids: Sequence[UUID], reach: Reach) -> dict[UUID, Record]:
    """The stored keys of those ids that the caller may see."""
    found = await source.fetch(OF_IDS, ids, None if reach.domains is None else list(reach.domains), reach.extension)
    return {UUID(int=row[0].int): Record(*row[1:]) for row in found}


async def hosts(source: Source, domain: str) -> bool:
    """Whether this installation hosts a domain."""
    return bool(await source.fetchval(HOSTS, domain))


async def seen(source: Source, keys: Sequence[bytes]) -> set[bytes]:
    """Those of the keys that are recorded."""
    return {record[0] for record in await source.fetch(SEEN, keys)}


async def taken(source: Source, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that are some message's."""
    return {record[0] for record in await source.fetch(TAKEN, ids)}


async def put(connection: Connection, recorded: Sequence[tuple[Message, str | None]]) -> None:
    """Record new messages, each with its recording relative to the recordings folder, or None."""
    rows = [message.row for message, _ in recorded]
    await connection.execute(
        PUT,
        [message.id for message, _ in recorded],
        [row.key for row in rows],
        [readable(row.domain) for row in rows],
        [readable(row.username) for row in rows],
        [readable(row.uuid) for row in rows],
        [readable(row.file_path) for row in rows],
        [None if path is None else readable(path) for _, path in recorded],
        [row.created_epoch for row in rows],
        [readable(row.caller_name[:_LONGEST_CALLER]) for row in rows],
        [readable(row.caller_number[:_LONGEST_CALLER]) for row in rows],
        [min(max(row.duration, 0), _LONGEST_DURATION) for row in rows],
        [_exact(row) for row in rows],
    )


def _exact(row: MessageRow) -> bool:
    """Whether the row is recorded letter for letter, and its texts fit an entry of an index."""
    return all(readable(text) == text for text in row[:4]) and sum(len(text.encode()) for text in row[:4]) <= _LONGEST


async def fact(source: Source, name: str) -> str | None:
    """A fact about this installation."""
    value: str | None = await source.fetchval(FACT, name)
    return value


async def put_fact(connection: Connection, name: str, value: str) -> None:
    """Note a fact if it is not known yet."""
    await connection.execute(PUT_FACT, name, value)
