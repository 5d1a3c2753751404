"""The SQL over ``voicemail.idempotency``."""

from dataclasses import dataclass
from uuid import UUID

from app.access.origin import Claim
from app.database.pool import Connection, Pool
from app.errors import Conflict

_FRESH = "begun_at > now() - interval '1 day'"
# All by the primary key.
FIND = f"SELECT fingerprint, acted, answer FROM voicemail.idempotency WHERE key = $1 AND {_FRESH}"  # noqa: S608 - a constant
# A run that was cut off before it did anything is taken over; from then on its own transaction cannot commit.
BEGIN = f"""
INSERT INTO voicemail.idempotency AS i (key, fingerprint, run) VALUES ($1, $2, $3)
ON CONFLICT (key) DO UPDATE SET fingerprint = $2, run = $3, begun_at = now(), acted = false, answer = NULL
    WHERE NOT (i.{_FRESH}) OR (NOT i.acted AND i.answer IS NULL)
RETURNING true
"""  # noqa: S608
ACTED = "UPDATE voicemail.idempotency SET acted = true WHERE key = $1 AND run = $2 RETURNING true"
ANSWER = "UPDATE voicemail.idempotency SET answer = $3 WHERE key = $1 AND run = $2"
RELEASE = "DELETE FROM voicemail.idempotency WHERE key = $1 AND run = $2 AND NOT acted"
# By the index on begun_at.
FORGET = """
DELETE FROM voicemail.idempotency WHERE key = ANY(ARRAY(
    SELECT key FROM voicemail.idempotency WHERE begun_at <= now() - interval '1 day' ORDER BY begun_at LIMIT $1
)) RETURNING true
"""


@dataclass(frozen=True, slots=True)
class First:
    """What became of the first request with a key."""

    fingerprint: bytes
    acted: bool
    answer: bytes | None  # sealed


async def find(pool: Pool, key: bytes) -> First | None:
    """The first request of the last day."""
    row = await pool.fetchrow(FIND, key)
    return None if row is None else First(*row)


async def begin(pool: Pool, claim: Claim, fingerprint: bytes) -> bool:
    """Note that a request begins; False if another one with its key has done something meanwhile."""
    return bool(await pool.fetchval(BEGIN, claim.key, fingerprint, claim.run))


async def note_act(connection: Connection | Pool, claim: Claim) -> None:
    """In the transaction of a change: the request did something.

    Raises ``Conflict``, so that nothing is changed, if another request with its key took over.
    """
    if await connection.fetchval(ACTED, claim.key, claim.run) is None:
        raise Conflict("another request with this Idempotency-Key took over")


async def keep_answer(pool: Pool, claim: Claim, sealed: bytes) -> None:
    """Keep the answer."""
    await pool.execute(ANSWER, claim.key, claim.run, sealed)


async def release(pool: Pool, key: bytes, run: UUID) -> None:
    """Forget a request that did nothing."""
    await pool.execute(RELEASE, key, run)


async def forget(pool: Pool, most: int) -> int:
    """Forget at most so many that are older than a day; how many it were."""
    return len(await pool.fetch(FORGET, most))
