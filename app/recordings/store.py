"""SQL over ``voicemail.recording``, the index of the recordings on disk."""

from collections.abc import Sequence

from app.database.pool import Connection
from app.recordings.model import Recording

# A disk may be mended: what was damaged is read again after a day.
KNOWN = """
SELECT path, size, mtime_ns FROM voicemail.recording
WHERE path = ANY($1::text[]) AND (damage = '' OR indexed_at > now() - interval '1 day')
"""
PUT = """
INSERT INTO voicemail.recording (path, size, mtime_ns, duration, codec, sample_rate, channels, sha256, damage)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::float8[], $5::text[], $6::integer[], $7::integer[],
                     $8::bytea[], $9::text[])
ON CONFLICT (path) DO UPDATE SET
    size = EXCLUDED.size, mtime_ns = EXCLUDED.mtime_ns, duration = EXCLUDED.duration, codec = EXCLUDED.codec,
    sample_rate = EXCLUDED.sample_rate, channels = EXCLUDED.channels, sha256 = EXCLUDED.sha256,
    damage = EXCLUDED.damage, indexed_at = now()
"""
REMOVE = "DELETE FROM voicemail.recording WHERE path = ANY($1::text[])"
AFTER = "SELECT path FROM voicemail.recording WHERE path > $1 ORDER BY path LIMIT $2"
BELOW = "SELECT path FROM voicemail.recording WHERE path = $1 OR starts_with(path, $1 || '/')"
ANY_AT_ALL = "SELECT EXISTS (SELECT FROM voicemail.recording)"


async def known(connection: Connection, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The size and mtime_ns that the index has for each of these paths, without those that are to be read again."""
    return {path: (size, mtime) for path, size, mtime in await connection.fetch(KNOWN, paths)}


async def put(connection: Connection, recordings: Sequence[Recording]) -> None:
    """Add recordings or replace what the index has for their paths; no path twice."""
    await connection.execute(
        PUT,
        [r.path for r in recordings], [r.size for r in recordings], [r.mtime_ns for r in recordings],
        [r.duration for r in recordings], [r.codec for r in recordings], [r.sample_rate for r in recordings],
        [r.channels for r in recordings], [r.sha256 for r in recordings], [r.damage for r in recordings],
    )  # fmt: skip


async def remove(connection: Connection, paths: Sequence[str]) -> int:
    """Take paths out of the index; says how many were in it."""
    return int((await connection.execute(REMOVE, paths)).rpartition(" ")[2])


async def after(connection: Connection, path: str, limit: int) -> list[str]:
    """The next paths of the index, in its order."""
    return [record[0] for record in await connection.fetch(AFTER, path, limit)]


async def below(connection: Connection, path: str) -> list[str]:
    """A path, if it is in the index, and those in the folder of that name."""
    return [record[0] for record in await connection.fetch(BELOW, path)]


async def has_any(connection: Connection) -> bool:
    """Whether the index holds anything."""
    return bool(await connection.fetchval(ANY_AT_ALL))
