"""SQL over ``voicemail.failed_login`` and ``voicemail.mailbox_lock``. All times are the database server's."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.mailboxes.lockout.model import LockoutPolicy, Login
from app.mailboxes.model import Lock

# A locked mailbox counts nothing: its true PIN is compared with nothing.
NOTE_FAILURE = """
INSERT INTO voicemail.failed_login (id, mailbox_id, source, call, at)
SELECT $1, m.id, $4, $5, clock_timestamp() - make_interval(secs => $6)
FROM voicemail.mailbox m LEFT JOIN voicemail.mailbox_lock l ON l.mailbox_id = m.id
WHERE m.domain = $2 AND m.extension = $3 AND l.locked_until IS NULL
ON CONFLICT DO NOTHING
"""
FORGIVE = """
UPDATE voicemail.failed_login f SET counted = false FROM voicemail.mailbox m
WHERE m.domain = $1 AND m.extension = $2 AND f.mailbox_id = m.id AND f.source = $3 AND f.call = $4 AND f.counted
"""
# By the index on the time of what counts.
OVER = """
SELECT m.domain, m.extension
FROM (
    SELECT mailbox_id FROM voicemail.failed_login
    WHERE counted AND at > clock_timestamp() - make_interval(secs => $2) GROUP BY mailbox_id HAVING count(*) >= $1
) f JOIN voicemail.mailbox m ON m.id = f.mailbox_id
    LEFT JOIN voicemail.mailbox_lock l ON l.mailbox_id = f.mailbox_id
WHERE l.locked_until IS NULL ORDER BY m.domain, m.extension
"""
# Counted again, because another copy of the service may have locked and unlocked it meanwhile.
LOCK = """
INSERT INTO voicemail.mailbox_lock AS l (mailbox_id, number, level, locked_until)
SELECT $1, 1, 1, clock_timestamp() + make_interval(secs => least($4::double precision, $5))
FROM voicemail.failed_login WHERE mailbox_id = $1 AND counted AND at > clock_timestamp() - make_interval(secs => $3)
HAVING count(*) >= $2
ON CONFLICT (mailbox_id) DO UPDATE SET (number, level, locked_until) = (
    SELECT l.number + 1, s.level, clock_timestamp() + make_interval(secs => least($4 * power(2, least(s.level, 31) - 1), $5))
    FROM (SELECT CASE WHEN l.ended_at > clock_timestamp() - make_interval(secs => $5) THEN l.level + 1 ELSE 1 END AS level) s
) WHERE l.locked_until IS NULL
RETURNING l.locked_until, l.number, l.level
"""
SPEND = "UPDATE voicemail.failed_login SET counted = false WHERE mailbox_id = $1 AND counted"
END = """
UPDATE voicemail.mailbox_lock SET locked_until = NULL, ended_at = clock_timestamp()
WHERE mailbox_id = $1 AND locked_until IS NOT NULL AND ($2 OR locked_until <= clock_timestamp())
RETURNING number
"""
# The next lock is as short as the first; the number stays, because each lock has a PIN of its own.
START_OVER = "UPDATE voicemail.mailbox_lock SET level = 0, ended_at = NULL WHERE mailbox_id = $1 AND locked_until IS NULL"
DUE = """
SELECT m.domain, m.extension FROM voicemail.mailbox_lock l JOIN voicemail.mailbox m ON m.id = l.mailbox_id
WHERE l.locked_until IS NOT NULL AND ($1 OR l.locked_until <= clock_timestamp()) ORDER BY m.domain, m.extension LIMIT 500
"""
LOCKED = """
SELECT m.extension, l.locked_until, l.number FROM voicemail.mailbox_lock l JOIN voicemail.mailbox m ON m.id = l.mailbox_id
WHERE m.domain = $1 AND m.extension = ANY ($2::text[]) AND l.locked_until IS NOT NULL
"""
# By the index on the locks that are on. Failed logins are kept for an hour, at most as many a mailbox as lock it.
COUNTS = """
SELECT (SELECT count(*) FROM voicemail.mailbox_lock WHERE locked_until IS NOT NULL) AS locked,
    count(*) FILTER (WHERE source = 'phone') AS phone, count(*) FILTER (WHERE source = 'api') AS api
FROM voicemail.failed_login WHERE at > clock_timestamp() - interval '15 minutes'
"""
PRUNE = "DELETE FROM voicemail.failed_login WHERE at < clock_timestamp() - make_interval(secs => $1)"


async def note_failure(connection: Connection, login: Login, age: float) -> None:
    """Count a failed login ``age`` seconds ago, once; not if the mailbox is locked or is not ours."""
    address = login.address
    await connection.execute(
        NOTE_FAILURE, login.id, address.domain, address.extension, login.source.value, login.call, max(age, 0.0)
    )


async def forgive(connection: Connection, login: Login) -> None:
    """Do not count what failed for this mailbox in the same call: who knows the PIN mistyped it."""
    await connection.execute(FORGIVE, login.address.domain, login.address.extension, login.source.value, login.call)


async def over(connection: Connection, policy: LockoutPolicy) -> list[MailboxAddress]:
    """The mailboxes that are to be locked."""
    return [_address(row) for row in await connection.fetch(OVER, policy.attempts, float(policy.window))]


async def lock(connection: Connection, mailbox_id: UUID, policy: LockoutPolicy) -> tuple[Lock, int] | None:
    """Lock a mailbox if it is not and too much failed: its lock, and the how manieth in a row this is."""
    values = policy.attempts, float(policy.window), float(policy.first), float(policy.longest)
    row = await connection.fetchrow(LOCK, mailbox_id, *values)
    if row is None:
        return None
    await connection.execute(SPEND, mailbox_id)
    return Lock(row["locked_until"], row["number"]), int(row["level"])


async def end(connection: Connection, mailbox_id: UUID, *, early: bool) -> bool:
    """End a mailbox's lock if its time is over, or ``early``; whether there was one to end."""
    return await connection.fetchval(END, mailbox_id, early) is not None


async def start_over(connection: Connection, mailbox_id: UUID) -> None:
    """Count from nothing again, as if no login had ever failed."""
    await connection.execute(SPEND, mailbox_id)
    await connection.execute(START_OVER, mailbox_id)


async def due(connection: Connection, *, early: bool) -> list[MailboxAddress]:
    """The mailboxes whose lock is over, or ``early`` every locked one; at most 500."""
    return [_address(row) for row in await connection.fetch(DUE, early)]


async def locked(connection: Connection, domain: str, extensions: Sequence[str]) -> dict[str, Lock]:
    """The locks that these mailboxes have now, by extension."""
    rows = await connection.fetch(LOCKED, domain, extensions)
    return {row["extension"]: Lock(row["locked_until"], row["number"]) for row in rows}


async def prune(connection: Connection, seconds: float) -> None:
    """Forget failed logins that are older."""
    await connection.execute(PRUNE, seconds)


def _address(row: "dict[str, str | datetime]") -> MailboxAddress:
    return MailboxAddress(Extension(row["extension"]), Domain(row["domain"]))
