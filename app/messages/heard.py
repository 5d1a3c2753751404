"""SQL over ``voicemail.heard_message``: the ``leave-message`` events whose rows were not seen yet."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.database.pool import Connection
from app.messages.lost import LeftMessage

PUT = """
INSERT INTO voicemail.heard_message (
    file_path, domain, username, uuid, caller_name, caller_number, created_epoch, duration, read_flags, due_at
)
SELECT m.*, now() + make_interval(secs => $10) FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::integer[], $9::text[]
) AS m
ON CONFLICT (file_path) DO NOTHING
"""
WAITING = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(heard_at)), 0)::float8 AS oldest,
    greatest(extract(epoch FROM now() - min(due_at)), 0)::float8 AS overdue
FROM voicemail.heard_message
"""
AMONG = "SELECT file_path FROM voicemail.heard_message WHERE file_path = ANY($1::text[])"
_COLUMNS = "file_path, domain, username, uuid, caller_name, caller_number, created_epoch, duration, read_flags"
_STATE = """extract(epoch FROM now() - heard_at)::float8 AS age,
    extract(epoch FROM now() - inserting_at)::float8 AS inserting_for, mwi_sent"""
DUE = f"SELECT {_COLUMNS}, {_STATE} FROM voicemail.heard_message WHERE due_at <= now() ORDER BY due_at LIMIT $1"  # noqa: S608
OF_FILES = f"SELECT {_COLUMNS}, {_STATE} FROM voicemail.heard_message WHERE file_path = ANY($1::text[])"  # noqa: S608
CAME = "SELECT DISTINCT recording FROM voicemail.message WHERE recording = ANY($1::text[])"
FORGET = "DELETE FROM voicemail.heard_message WHERE file_path = ANY($1::text[])"
POSTPONE = "UPDATE voicemail.heard_message SET due_at = now() + make_interval(secs => $2) WHERE file_path = ANY($1::text[])"
INSERTING = "UPDATE voicemail.heard_message SET inserting_at = coalesce(inserting_at, now()) WHERE file_path = $1"
MWI_SENT = "UPDATE voicemail.heard_message SET mwi_sent = true WHERE file_path = $1"


@dataclass(frozen=True, slots=True)
class Heard:
    """A message announced by an event, and the state of its handling."""

    left: LeftMessage
    age: float  # seconds since it was heard of
    inserting_for: float | None  # seconds since this service began to insert its row; None: it did not begin
    mwi_sent: bool


async def put(connection: Connection, left: Sequence[LeftMessage], *, due_in: float) -> None:
    """Remember messages, to look for their rows in so many seconds; one that is remembered stays as it is."""
    await connection.execute(PUT, *([getattr(one, name) for one in left] for name in LeftMessage.__slots__), due_in)


async def among(connection: Connection, file_paths: Sequence[str]) -> set[str]:
    """Those of the recordings that were heard of lately."""
    return {record[0] for record in await connection.fetch(AMONG, file_paths)}


async def due(connection: Connection, limit: int) -> list[Heard]:
    """The messages to look at now."""
    return [_heard(record) for record in await connection.fetch(DUE, limit)]


async def of_files(connection: Connection, file_paths: Sequence[str]) -> list[Heard]:
    """What is remembered of these recordings."""
    return [_heard(record) for record in await connection.fetch(OF_FILES, file_paths)]


def _heard(record: Sequence[object]) -> Heard:
    *left, age, inserting_for, mwi_sent = record
    return Heard(LeftMessage(*left), age, inserting_for, mwi_sent)  # type: ignore[arg-type]


async def came(connection: Connection, recordings: Sequence[str]) -> set[str]:
    """Those of the recordings, named below their folder, whose rows were ever seen."""
    return {record[0] for record in await connection.fetch(CAME, recordings)}


async def forget(connection: Connection, file_paths: Sequence[str]) -> None:
    """Delete these entries; they are done."""
    await connection.execute(FORGET, file_paths)


async def postpone(connection: Connection, file_paths: Sequence[str], seconds: float) -> None:
    """Look at these again later."""
    await connection.execute(POSTPONE, file_paths, seconds)


async def inserting(connection: Connection, file_path: str) -> None:
    """Note, before it is done, that this service inserts the row."""
    await connection.execute(INSERTING, file_path)


async def lit(connection: Connection, file_path: str) -> None:
    """Note that MWI was sent."""
    await connection.execute(MWI_SENT, file_path)
