"""SQL over many rows of ``voicemail.directory_entry`` at once: what is due, what came of it, and how much waits.

Statements that change several rows lock them first, in the order of their domains and extensions, so that no two of them wait for
each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.access.scopes import EVERY
from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.mailboxes import store
from app.mailboxes.directory import store as entries
from app.mailboxes.directory.store import Entry
from app.mailboxes.model import DirectoryState, Mailbox

# Held by the copy of the service that works on a batch, as long as its connection lives.
CLAIM = "SELECT pg_try_advisory_lock(hashtextextended('voicemail directory batch ' || $1, 0))"
RELEASE = "SELECT pg_advisory_unlock(hashtextextended('voicemail directory batch ' || $1, 0))"
# By the index on next_try_at of what is not applied.
DUE = """
SELECT domain, extension FROM voicemail.directory_entry
WHERE ($1::text IS NULL OR domain = $1) AND state <> 'applied' AND next_try_at <= now() ORDER BY next_try_at LIMIT $2
"""
PULL_FORWARD = """
WITH waiting AS (
    SELECT domain, extension FROM voicemail.directory_entry
    WHERE ($1::text IS NULL OR domain = $1) AND state <> 'applied' ORDER BY domain, extension FOR UPDATE
), pulled AS (
    UPDATE voicemail.directory_entry e SET next_try_at = now() FROM waiting w
    WHERE e.domain = w.domain AND e.extension = w.extension AND e.next_try_at > now()
)
SELECT count(*) FROM waiting
"""
# The same locks as ``entries.lock``.
LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended('voicemail directory ' || $1 || ' ' || extension, 0))
FROM (SELECT extension FROM unnest($2::text[]) extension ORDER BY extension) sorted
"""
FIND = """
SELECT extension, revision, state, detail, attempts, prefs_digest, applied_at IS NOT NULL AS written, adopted_file
FROM voicemail.directory_entry
WHERE domain = $1 AND extension = ANY($2::text[]) AND state <> 'applied'
"""
SETTLE = """
WITH locked AS (
    SELECT e.extension, o.state, o.detail, o.pause
    FROM voicemail.directory_entry e
    JOIN unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::double precision[])
        o (extension, revision, state, detail, pause)
        ON e.extension = o.extension AND e.revision = o.revision
    WHERE e.domain = $1 ORDER BY e.extension FOR UPDATE OF e
)
UPDATE voicemail.directory_entry e
SET state = l.state, detail = l.detail, attempts = e.attempts + 1, next_try_at = now() + make_interval(secs => l.pause),
    applied_at = CASE WHEN l.state = 'applied' THEN now() ELSE e.applied_at END
FROM locked l WHERE e.domain = $1 AND e.extension = l.extension
"""
FORGET = """
WITH locked AS (
    SELECT e.extension
    FROM voicemail.directory_entry e
    JOIN unnest($2::text[], $3::bigint[]) o (extension, revision) ON e.extension = o.extension AND e.revision = o.revision
    WHERE e.domain = $1 ORDER BY e.extension FOR UPDATE OF e
)
DELETE FROM voicemail.directory_entry e USING locked l
WHERE e.domain = $1 AND e.extension = l.extension
  AND NOT EXISTS (SELECT FROM voicemail.mailbox m WHERE m.domain = e.domain AND m.extension = e.extension)
"""
SEEN = """
WITH locked AS (
    SELECT e.extension, o.now
    FROM voicemail.directory_entry e
    JOIN unnest($2::text[], $3::bytea[], $4::bytea[]) o (extension, before, now)
        ON e.extension = o.extension AND e.prefs_digest IS NOT DISTINCT FROM o.before
    WHERE e.domain = $1 AND e.prefs_digest IS DISTINCT FROM o.now ORDER BY e.extension FOR UPDATE OF e
)
UPDATE voicemail.directory_entry e SET prefs_digest = l.now FROM locked l WHERE e.domain = $1 AND e.extension = l.extension
"""
# By the index on next_try_at of what is not applied; the oldest is the one whose turn came first.
BACKLOG = """
WITH waiting AS (
    SELECT e.domain, e.extension, e.state, e.detail, e.next_try_at,
           EXISTS (SELECT FROM voicemail.mailbox m WHERE m.domain = e.domain AND m.extension = e.extension) AS lives
    FROM voicemail.directory_entry e WHERE ($1::text IS NULL OR e.domain = $1) AND e.state <> 'applied'
)
SELECT count(*) FILTER (WHERE lives AND state = 'pending') AS pending,
       count(*) FILTER (WHERE lives AND state = 'failed') AS failed,
       count(*) FILTER (WHERE NOT lives) AS removals,
       (array_agg(extension || '@' || domain ORDER BY state = 'failed' DESC, next_try_at))[1] AS address,
       (array_agg(detail ORDER BY state = 'failed' DESC, next_try_at))[1] AS detail
FROM waiting
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many mailboxes the switch does not have as they should be, and why the oldest of them; a failed one comes first."""

    pending: int
    failed: int
    removals: int
    address: str
    detail: str

    def __str__(self) -> str:
        if not (self.pending or self.failed or self.removals):
            return "none waits for the switch"
        counts = f"{self.pending} pending, {self.failed} failed, {self.removals} removals under way"
        return f"{counts}; {self.address}: {self.detail or 'not sent to the switch yet'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt."""

    entry: Entry
    directory: DirectoryState
    try_again_in: float
    removal: bool


# In what follows ``only`` is the one domain that is served; None: every domain.


async def claim(connection: Connection, only: str | None) -> bool:
    """Claim the batch work until ``release`` or the end of the connection; False if another copy has the claim."""
    return bool(await connection.fetchval(CLAIM, only or EVERY))


async def release(connection: Connection, only: str | None) -> None:
    """Let others work on batches."""
    await connection.fetchval(RELEASE, only or EVERY)


async def due(connection: Connection, only: str | None, *, limit: int) -> list[MailboxAddress]:
    """The mailboxes whose turn has come, the oldest first."""
    rows = await connection.fetch(DUE, only, limit)
    return [MailboxAddress(Extension(row["extension"]), Domain(row["domain"])) for row in rows]


async def pull_forward(connection: Connection, only: str | None) -> int:
    """Make every entry due that is not applied; returns how many."""
    return int(await connection.fetchval(PULL_FORWARD, only))


async def lock(connection: Connection, domain: str, extensions: Sequence[str]) -> None:
    """As ``entries.lock`` for several."""
    await connection.execute(LOCK, domain, extensions)


async def find(connection: Connection, domain: str, extensions: Sequence[str]) -> list[tuple[Entry, Mailbox | None]]:
    """Those of the extensions that are not applied, each with its mailbox; None: it was removed."""
    found = [entries.entry_of(row) for row in await connection.fetch(FIND, domain, extensions)]
    mailboxes = await store.find_many(connection, domain, extensions)
    return [(entry, mailboxes.get(entry.extension)) for entry in found]


async def settle(connection: Connection, domain: str, waiters: Sequence[Outcome]) -> None:
    """Write the results of many attempts, except for entries that changed meanwhile."""
    await connection.execute(
        SETTLE,
        domain,
        [outcome.entry.extension for outcome in waiters],
        [outcome.entry.revision for outcome in waiters],
        [outcome.directory.state.value for outcome in waiters],
        [outcome.directory.detail for outcome in waiters],
        [outcome.try_again_in for outcome in waiters],
    )


async def forget(connection: Connection, domain: str, removed: Sequence[Entry]) -> None:
    """Delete the entries whose removal was applied, unless they changed meanwhile."""
    await connection.execute(FORGET, domain, [entry.extension for entry in removed], [entry.revision for entry in removed])


async def note_seen(connection: Connection, domain: str, seen: Sequence[tuple[Entry, bytes]]) -> None:
    """As ``entries.note_seen`` for several: entries as they were, each with its new digest."""
    extensions = [entry.extension for entry, _ in seen]
    before = [entry.prefs_digest for entry, _ in seen]
    await connection.execute(SEEN, domain, extensions, before, [digest for _, digest in seen])


async def backlog(connection: Connection, only: str | None = None) -> Backlog:
    """The entries that wait for the switch."""
    row = await connection.fetchrow(BACKLOG, only)
    counts = row["pending"], row["failed"], row["removals"]
    return Backlog(*counts, row["address"] or "", row["detail"] or "")
