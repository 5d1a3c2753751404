"""SQL over ``voicemail.link``."""

from collections.abc import Sequence
from uuid import UUID

from app.database.pool import Connection, Pool
from app.messages.links.model import Link

_COLUMNS = "id, message_id, domain, token_id, made_by, created_at, expires_at"
# The message's row is locked, so that two calls do not both make its last link.
COUNT = """
SELECT (SELECT count(*) FROM voicemail.link l WHERE l.message_id = m.id AND l.expires_at > now())
FROM voicemail.message m WHERE m.id = $1 FOR UPDATE
"""
INSERT = f"""
INSERT INTO voicemail.link (digest, message_id, domain, token_id, made_by, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6)) RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
OF_MESSAGE = f"""
SELECT {_COLUMNS} FROM voicemail.link WHERE message_id = $1 AND expires_at > now() ORDER BY created_at DESC, id LIMIT $2
"""  # noqa: S608
FIND = f"SELECT {_COLUMNS} FROM voicemail.link WHERE digest = $1 AND expires_at > now()"  # noqa: S608
DELETE = "DELETE FROM voicemail.link WHERE message_id = $1 AND ($2::uuid IS NULL OR id = $2) RETURNING id"
FORGET = "DELETE FROM voicemail.link WHERE expires_at < now() - interval '1 day'"


async def count(connection: Connection, message_id: UUID) -> int:
    """How many links of a message are alive; no other link of it is made until this transaction ends."""
    return int(await connection.fetchval(COUNT, message_id) or 0)


async def insert(
    connection: Connection,
    digest: bytes,
    message_id: UUID,
    *,
    domain: str,
    token_id: UUID | None,
    made_by: str,
    seconds: int,
) -> Link:
    """Keep a new link, and forget those that expired long ago."""
    await connection.execute(FORGET)
    return Link(*await connection.fetchrow(INSERT, digest, message_id, domain, token_id, made_by, float(seconds)))


async def of_message(pool: Pool, message_id: UUID, limit: int) -> Sequence[Link]:
    """The links of a message that are alive, newest first."""
    return [Link(*row) for row in await pool.fetch(OF_MESSAGE, message_id, limit)]


async def find(pool: Pool, digest: bytes) -> Link | None:
    """The link with this digest, unless it has expired. Uses the index of digests."""
    row = await pool.fetchrow(FIND, digest)
    return None if row is None else Link(*row)


async def delete(connection: Connection, message_id: UUID, link_id: UUID | None) -> Sequence[UUID]:
    """Delete a link of a message, or all of them if ``link_id`` is None; those that were there."""
    return [row[0] for row in await connection.fetch(DELETE, message_id, link_id)]
