"""SQL over ``voicemail.removal``: the messages to remove, and the state of each removal. All times are the database's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.database.pool import Connection
from app.jobs.retries import Retries

# By the index on what is under way.
WAITING = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(asked_at)), 0)::float8 AS oldest,
    greatest(extract(epoch FROM now() - min(next_try_at)), 0)::float8 AS overdue
FROM voicemail.removal WHERE state NOT IN ('deleted', 'kept')
"""


class RemovalState(StrEnum):
    """How far a removal went. Each state is written before the next step begins, so any process can go on from it."""

    ASKED = "asked"
    DELETING = "deleting"
    ROW_GONE = "row_gone"
    FILE_GONE = "file_gone"
    TOLD = "told"
    DELETED = "deleted"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class RemovalTask:
    """One removal that is under way, with what is remembered of its message."""

    id: UUID
    message_id: UUID
    reason: str
    state: RemovalState
    detail: str
    tries: int
    age: float  # seconds since it was asked for
    message_age: float  # seconds since the message was first seen
    key: bytes  # tells the message's row from every other
    domain: str
    username: str
    uuid: str
    file_path: str


ASK = """
INSERT INTO voicemail.removal (message_id, reason, next_try_at)
SELECT m.id, $2, greatest(now(), m.seen_at + $3::interval) FROM voicemail.message m WHERE m.id = $1
ON CONFLICT (message_id, reason) DO NOTHING
RETURNING id, extract(epoch FROM next_try_at - now())::float8 AS delay
"""
# For what somebody waits for: at once, and again if it was settled before.
ASK_NOW = """
INSERT INTO voicemail.removal AS r (message_id, reason) VALUES ($1, $2)
ON CONFLICT (message_id, reason) DO UPDATE SET state = 'asked', detail = '', tries = 0, next_try_at = now(), asked_at = now(),
    settled_at = NULL
WHERE r.state IN ('deleted', 'kept')
RETURNING id
"""
ASK_MANY_NOW = """
INSERT INTO voicemail.removal AS r (message_id, reason) SELECT id, $2 FROM unnest($1::uuid[]) AS m (id)
ON CONFLICT (message_id, reason) DO UPDATE SET state = 'asked', detail = '', tries = 0, next_try_at = now(), asked_at = now(),
    settled_at = NULL
WHERE r.state IN ('deleted', 'kept')
RETURNING id, message_id
"""
OF_REASON = "SELECT id FROM voicemail.removal WHERE message_id = $1 AND reason = $2"
STATE = "SELECT state, detail FROM voicemail.removal WHERE id = $1"
# Nothing was done yet, and nothing is to be done any more.
CANCEL = """
UPDATE voicemail.removal SET state = 'kept', detail = $2, settled_at = now() WHERE id = $1 AND state = 'asked'
RETURNING message_id
"""
# The message is being put back: its file must not be removed any more, and is nobody's orphan meanwhile.
STOP = """
UPDATE voicemail.removal SET state = 'deleted', settled_at = now() WHERE message_id = $1 AND reason = $2
    AND state NOT IN ('deleted', 'kept')
"""
FORGET = "DELETE FROM voicemail.removal WHERE message_id = $1 AND reason = $2 AND state IN ('deleted', 'kept')"
# A try is counted before it is made, and nobody else makes one until its lease, or the pause that would follow it, has passed.
BEGIN = """
UPDATE voicemail.removal r
SET tries = r.tries + 1, next_try_at = now() + make_interval(
    secs => greatest($2::float8, least($3::float8 * power(2, least(r.tries, 30)), $4::float8)))
FROM voicemail.message m
WHERE r.id = $1 AND m.id = r.message_id AND r.state NOT IN ('deleted', 'kept') AND r.next_try_at <= now()
RETURNING r.id, r.message_id, r.reason, r.state, r.detail, r.tries, extract(epoch FROM now() - r.asked_at)::float8 AS age,
    extract(epoch FROM now() - m.seen_at)::float8 AS message_age, m.row_key, m.domain, m.username, m.uuid, m.file_path
"""
BEGIN_MANY = """
UPDATE voicemail.removal SET tries = tries + 1, next_try_at = now() + make_interval(secs => $2)
WHERE id = ANY($1::uuid[]) AND state = 'asked' AND next_try_at <= now() RETURNING id
"""
ADVANCE_MANY = """
UPDATE voicemail.removal SET state = $2, detail = $3, next_try_at = now() + make_interval(secs => $4)
WHERE id = ANY($1::uuid[]) AND state NOT IN ('deleted', 'kept')
"""
AGAIN = "UPDATE voicemail.removal SET next_try_at = now() WHERE id = ANY($1::uuid[]) AND state NOT IN ('deleted', 'kept')"
ADVANCE = "UPDATE voicemail.removal SET state = $2, detail = $3 WHERE id = $1 AND state NOT IN ('deleted', 'kept')"
SETTLE = """
UPDATE voicemail.removal SET state = $2, detail = $3, settled_at = now() WHERE id = $1 AND state NOT IN ('deleted', 'kept')
"""
POSTPONE = """
UPDATE voicemail.removal SET detail = $2, next_try_at = now() + $3::interval WHERE id = $1 AND state NOT IN ('deleted', 'kept')
"""
# By the partial index removal_due.
DUE = """
SELECT id, tries FROM voicemail.removal
WHERE state NOT IN ('deleted', 'kept') AND next_try_at <= now() ORDER BY next_try_at LIMIT $1
"""
# Other messages may have the same recording: while one of them is not removed, it is still somebody's.
REMOVED = """
SELECT m.recording FROM voicemail.message m WHERE m.recording = ANY($1::text[])
GROUP BY m.recording HAVING bool_and(EXISTS (
    SELECT FROM voicemail.removal r WHERE r.message_id = m.id AND r.state NOT IN ('asked', 'kept')
))
"""


async def ask(connection: Connection, message_id: UUID, reason: str, settling: float) -> tuple[UUID, float] | None:
    """Write down that a message is to go, ``settling`` seconds after it came at the earliest; the id, and in how many seconds.

    None if that was asked for before.
    """
    row = await connection.fetchrow(ASK, message_id, reason, timedelta(seconds=settling))
    return row and (UUID(int=row["id"].int), row["delay"])


async def ask_now(connection: Connection, message_id: UUID, reason: str) -> UUID:
    """Write down that a message is to go now; the removal's id, also if it is under way."""
    found = await connection.fetchval(ASK_NOW, message_id, reason) or await connection.fetchval(OF_REASON, message_id, reason)
    return UUID(int=found.int)


async def ask_many_now(connection: Connection, message_ids: Sequence[UUID], reason: str) -> dict[UUID, UUID]:
    """Write down that messages are to go now; the removal of each message that was not under way already."""
    found = await connection.fetch(ASK_MANY_NOW, message_ids, reason)
    return {UUID(int=row["message_id"].int): UUID(int=row["id"].int) for row in found}


async def begin_many(connection: Connection, removal_ids: Sequence[UUID], lease: float) -> set[UUID]:
    """Count a try of each that nothing was done of yet, and have a lease of so many seconds for it; which they are."""
    return {UUID(int=row[0].int) for row in await connection.fetch(BEGIN_MANY, removal_ids, lease)}


async def advance_many(
    connection: Connection, removal_ids: Sequence[UUID], state: RemovalState, detail: str = "", *, delay: float
) -> None:
    """Note the state of the removals; the next try of each is in ``delay`` seconds."""
    await connection.execute(ADVANCE_MANY, removal_ids, str(state), detail, delay)


async def again(connection: Connection, removal_ids: Sequence[UUID]) -> None:
    """Let the next try of these removals be made at once."""
    await connection.execute(AGAIN, removal_ids)


async def of_reason(connection: Connection, message_id: UUID, reason: str) -> UUID | None:
    """The id of a message's removal for this reason."""
    found = await connection.fetchval(OF_REASON, message_id, reason)
    return None if found is None else UUID(int=found.int)


async def state(connection: Connection, removal_id: UUID) -> tuple[RemovalState, str]:
    """The state of a removal and its detail."""
    row = await connection.fetchrow(STATE, removal_id)
    return (RemovalState(row[0]), row[1]) if row else (RemovalState.KEPT, "")


async def cancel(connection: Connection, removal_id: UUID, detail: str) -> bool:
    """Give up a removal that has deleted nothing yet; False if it has, or may have."""
    return await connection.fetchval(CANCEL, removal_id, detail) is not None


async def stop(connection: Connection, message_id: UUID, reason: str) -> None:
    """End a removal whose message is being put back."""
    await connection.execute(STOP, message_id, reason)


async def forget(connection: Connection, message_id: UUID, reason: str) -> None:
    """Forget a settled removal: the message is back."""
    await connection.execute(FORGET, message_id, reason)


async def begin(connection: Connection, removal_id: UUID, retries: Retries) -> RemovalTask | None:
    """Count a try and have a lease for it; None if it is settled, or not due yet."""
    row = await connection.fetchrow(BEGIN, removal_id, retries.lease, retries.first, retries.longest)
    return row and _task(row)


async def advance(connection: Connection, removal_id: UUID, state: RemovalState, detail: str) -> None:
    """Note the state of the removal."""
    await connection.execute(ADVANCE, removal_id, str(state), detail)


async def settle(connection: Connection, removal_id: UUID, state: RemovalState, detail: str) -> None:
    """End it: ``deleted`` or ``kept``."""
    await connection.execute(SETTLE, removal_id, str(state), detail)


async def postpone(connection: Connection, removal_id: UUID, detail: str, delay: float) -> None:
    """Try again in ``delay`` seconds."""
    await connection.execute(POSTPONE, removal_id, detail, timedelta(seconds=delay))


async def due(connection: Connection, limit: int) -> list[tuple[UUID, int]]:
    """Removals to be tried now, each with how often that was done."""
    return [(UUID(int=row["id"].int), row["tries"]) for row in await connection.fetch(DUE, limit)]


async def removed(connection: Connection, recordings: Sequence[str]) -> set[str]:
    """Those of the recordings, named below their folder, whose every row this service deleted, or is just deleting."""
    return {record[0] for record in await connection.fetch(REMOVED, recordings)}


def _task(row: Any) -> RemovalTask:
    return RemovalTask(
        id=UUID(int=row["id"].int),
        message_id=UUID(int=row["message_id"].int),
        reason=row["reason"],
        state=RemovalState(row["state"]),
        detail=row["detail"],
        tries=row["tries"],
        age=row["age"],
        message_age=row["message_age"],
        key=row["row_key"],
        domain=row["domain"],
        username=row["username"],
        uuid=row["uuid"],
        file_path=row["file_path"],
    )
