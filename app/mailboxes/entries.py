"""SQL over ``voicemail.directory_entry``: what the switch should have for an extension, and whether it has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.addressing import Extension, MailboxAddress
from app.database.pool import Connection
from app.mailboxes.model import DirectoryState, DirectoryStatus
from app.switch.directory_marks import Claim

# The first revision is the time in microseconds, so that a row that is made again never repeats one: whoever still works on
# the row before it must not take this one for it.
RAISE = """
INSERT INTO voicemail.directory_entry AS e (domain, extension, revision)
SELECT $1, extension, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM unnest($2::text[]) extension ORDER BY extension
ON CONFLICT (domain, extension) DO UPDATE
SET revision = e.revision + 1, state = 'pending', detail = '', attempts = 0, next_try_at = now()
RETURNING extension, revision
"""
SEEN = """
UPDATE voicemail.directory_entry SET prefs_digest = $4
WHERE domain = $1 AND extension = $2 AND prefs_digest IS NOT DISTINCT FROM $3
"""
FIND = """
SELECT extension, revision, state, detail, attempts, prefs_digest, applied_at IS NOT NULL AS written, adopted_file
FROM voicemail.directory_entry WHERE domain = $1 AND extension = $2
"""
SETTLE = """
UPDATE voicemail.directory_entry
SET state = $4, detail = $5, attempts = attempts + 1, next_try_at = now() + make_interval(secs => $6),
    applied_at = CASE WHEN $4 = 'applied' THEN now() ELSE applied_at END
WHERE domain = $1 AND extension = $2 AND revision = $3
RETURNING attempts
"""
FORGET = """
DELETE FROM voicemail.directory_entry e
WHERE domain = $1 AND extension = $2 AND revision = $3
  AND NOT EXISTS (SELECT FROM voicemail.mailbox m WHERE m.domain = e.domain AND m.extension = e.extension)
"""
# By the index on next_try_at of what is not applied.
DUE = """
SELECT extension, revision, state, detail, attempts, prefs_digest, applied_at IS NOT NULL AS written, adopted_file
FROM voicemail.directory_entry
WHERE domain = $1 AND state <> 'applied' AND next_try_at < now() + make_interval(secs => $2)
ORDER BY next_try_at LIMIT $3
"""
DIGESTS = """
SELECT extension, prefs_digest FROM voicemail.directory_entry
WHERE domain = $1 AND extension = ANY($2::text[]) AND prefs_digest IS NOT NULL
"""
# One lock an extension, held until the transaction ends, in a space of its own.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('voicemail directory ' || $1 || ' ' || $2, 0))"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one extension on the switch."""

    extension: str
    revision: int
    directory: DirectoryState
    attempts: int  # of this revision
    prefs_digest: bytes | None  # of the PINs last seen in or written to voicemail_prefs; None: not known
    claim: Claim  # to what lies in the mailbox's place in the directory


async def raise_revisions(connection: Connection, domain: str, extensions: Sequence[str]) -> dict[str, int]:
    """Note that the switch must learn of these extensions anew, mailbox or none; their new revisions."""
    return {row["extension"]: row["revision"] for row in await connection.fetch(RAISE, domain, extensions)}


async def note_seen(connection: Connection, address: MailboxAddress, before: bytes | None, digest: bytes | None) -> None:
    """Note which PINs voicemail_prefs has, None where that could not be seen; only where ``before`` is what is noted now."""
    await connection.execute(SEEN, address.domain, address.extension, before, digest)


async def find(connection: Connection, address: MailboxAddress) -> Entry | None:
    """The entry of one extension."""
    row = await connection.fetchrow(FIND, address.domain, address.extension)
    return row and _entry(row)


async def settle(
    connection: Connection, address: MailboxAddress, revision: int, outcome: DirectoryState, *, try_again_in: float
) -> int | None:
    """Write the outcome of one attempt; the attempts so far, or None where a later change made the outcome void."""
    values = (address.domain, address.extension, revision, outcome.state.value, outcome.detail, try_again_in)
    attempts: int | None = await connection.fetchval(SETTLE, *values)
    return attempts


async def forget(connection: Connection, address: MailboxAddress, revision: int) -> None:
    """Forget an extension whose removal was applied, unless it changed meanwhile."""
    await connection.execute(FORGET, address.domain, address.extension, revision)


async def due(connection: Connection, domain: str, *, within: float, limit: int) -> list[Entry]:
    """What is not applied and may be tried within so many seconds from now, or was due as many seconds ago where negative."""
    return [_entry(row) for row in await connection.fetch(DUE, domain, within, limit)]


async def digests(connection: Connection, domain: str, extensions: Sequence[str]) -> dict[str, bytes]:
    """The digests of PINs last seen, where known."""
    return {row["extension"]: row["prefs_digest"] for row in await connection.fetch(DIGESTS, domain, extensions)}


async def lock(connection: Connection, address: MailboxAddress) -> None:
    """Be the only one to work on what the switch has of this extension, until the transaction ends."""
    await connection.execute(LOCK, address.domain, address.extension)


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        extension=Extension(row["extension"]),
        revision=row["revision"],
        directory=DirectoryState(DirectoryStatus(row["state"]), row["detail"]),
        attempts=row["attempts"],
        prefs_digest=row["prefs_digest"],
        claim=Claim(row["written"], row["adopted_file"]),
    )
