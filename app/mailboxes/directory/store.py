"""SQL over ``voicemail.directory_entry``: what the switch should have for an extension, and whether it has it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress, MailboxKey
from app.database.pool import Connection
from app.mailboxes.model import DirectoryState, DirectoryStatus
from app.switch.directory.marks import Claim

# The first revision is the time in microseconds, so that a row that is made again never repeats one: whoever still works on
# the row before it must not take this one for it.
RAISE = """
INSERT INTO voicemail.directory_entry AS e (domain, extension, revision)
SELECT $1, extension, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM unnest($2::text[]) extension ORDER BY extension
ON CONFLICT (domain, extension) DO UPDATE
SET revision = e.revision + 1, state = 'pending', detail = '', attempts = 0, next_try_at = now(), removed_id = NULL
RETURNING extension, revision
"""
# As above for one extension, with what was seen in voicemail_prefs; only if $3 is what is noted now.
RAISE_SEEN = """
INSERT INTO voicemail.directory_entry AS e (domain, extension, revision, prefs_digest)
VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, CASE WHEN $3::bytea IS NULL THEN $4::bytea END)
ON CONFLICT (domain, extension) DO UPDATE
SET revision = e.revision + 1, state = 'pending', detail = '', attempts = 0, next_try_at = now(), removed_id = NULL,
    prefs_digest = CASE WHEN e.prefs_digest IS NOT DISTINCT FROM $3 THEN $4 ELSE e.prefs_digest END
RETURNING revision
"""
SEEN = """
UPDATE voicemail.directory_entry SET prefs_digest = $4
WHERE domain = $1 AND extension = $2 AND prefs_digest IS NOT DISTINCT FROM $3
"""
FIND = """
SELECT extension, revision, state, detail, attempts, prefs_digest, applied_at IS NOT NULL AS written, adopted_file
FROM voicemail.directory_entry WHERE domain = $1 AND extension = $2
"""
NOTE_REMOVED = "UPDATE voicemail.directory_entry SET removed_id = $3 WHERE domain = $1 AND extension = $2"
# By the primary key, or by the index on removed_id.
REMOVAL = """
SELECT extension, revision, state, detail, attempts, prefs_digest, applied_at IS NOT NULL AS written, adopted_file
FROM voicemail.directory_entry e
WHERE domain = $1 AND (extension = $2 OR removed_id = $3)
  AND NOT EXISTS (SELECT FROM voicemail.mailbox m WHERE m.domain = e.domain AND m.extension = e.extension)
LIMIT 1
"""
DIGESTS = """
SELECT e.domain, e.extension, e.prefs_digest FROM voicemail.directory_entry e
JOIN unnest($1::text[], $2::text[]) o (domain, extension) ON e.domain = o.domain AND e.extension = o.extension
WHERE e.prefs_digest IS NOT NULL
"""
# Reads the whole table, 100,000 rows in about 13 ms, so the result is cached for a while.
STATES = "SELECT state, count(*) AS entries FROM voicemail.directory_entry GROUP BY state"
# By the index on what is due.
OVERDUE = """
SELECT greatest(extract(epoch FROM now() - min(next_try_at)), 0)::float8 FROM voicemail.directory_entry WHERE state <> 'applied'
"""
DOMAINS = "SELECT DISTINCT domain FROM voicemail.directory_entry WHERE prefs_digest IS NOT NULL"
# One lock an extension, held until the transaction ends, in a space of its own.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('voicemail directory ' || $1 || ' ' || $2, 0))"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one extension on the switch."""

    extension: Extension
    revision: int
    directory: DirectoryState
    attempts: int  # of this revision
    prefs_digest: bytes | None  # of the PINs last seen in or written to voicemail_prefs; None: not known
    claim: Claim  # to what lies in the mailbox's place in the directory


async def raise_revisions(connection: Connection, domain: str, extensions: Sequence[str]) -> dict[str, int]:
    """Note that the switch must learn of these extensions anew, mailbox or none; their new revisions."""
    return {row["extension"]: row["revision"] for row in await connection.fetch(RAISE, domain, extensions)}


async def raise_seen(connection: Connection, address: MailboxAddress, before: bytes | None, digest: bytes | None) -> int:
    """``raise_revisions`` and ``note_seen`` of one extension; its new revision."""
    return int(await connection.fetchval(RAISE_SEEN, address.domain, address.extension, before, digest))


async def note_seen(connection: Connection, address: MailboxAddress, before: bytes | None, digest: bytes | None) -> None:
    """Note which PINs voicemail_prefs has, None if that could not be seen; only if ``before`` is what is noted now."""
    await connection.execute(SEEN, address.domain, address.extension, before, digest)


async def find(connection: Connection, address: MailboxAddress) -> Entry | None:
    """The entry of one extension."""
    row = await connection.fetchrow(FIND, address.domain, address.extension)
    return row and entry_of(row)


async def note_removed(connection: Connection, address: MailboxAddress, mailbox_id: UUID) -> None:
    """Note whose removal this is, so that it is found by the mailbox's id as well."""
    await connection.execute(NOTE_REMOVED, address.domain, address.extension, mailbox_id)


async def removal(connection: Connection, domain: str, key: MailboxKey) -> Entry | None:
    """The removal that is under way for an extension, or for a mailbox of this id."""
    row = await connection.fetchrow(REMOVAL, domain, key.extension, key.id)
    return row and entry_of(row)


async def domains(connection: Connection) -> list[Domain]:
    """The domains of which PINs were seen."""
    return [Domain(row["domain"]) for row in await connection.fetch(DOMAINS)]


async def digests(connection: Connection, seen: Collection[tuple[str, str]]) -> dict[MailboxAddress, bytes]:
    """The digests of PINs last seen, of those that are known; ``seen``: domains and usernames."""
    rows = await connection.fetch(DIGESTS, [domain for domain, _ in seen], [username for _, username in seen])
    return {MailboxAddress(Extension(row["extension"]), Domain(row["domain"])): row["prefs_digest"] for row in rows}


async def lock(connection: Connection, address: MailboxAddress) -> None:
    """Lock this extension (an advisory lock) until the transaction ends."""
    await connection.execute(LOCK, address.domain, address.extension)


def entry_of(row: Mapping[str, Any]) -> Entry:
    """An entry from a row of these columns."""
    return Entry(
        extension=Extension(row["extension"]),
        revision=row["revision"],
        directory=DirectoryState(DirectoryStatus(row["state"]), row["detail"]),
        attempts=row["attempts"],
        prefs_digest=row["prefs_digest"],
        claim=Claim(row["written"], row["adopted_file"]),
    )
