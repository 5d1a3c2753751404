"""SQL over ``voicemail.notice``: mails without a recording, one an address. All times are the database's."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.jobs.retries import Retries
from app.notifications.model import Recipient, RecipientState
from app.notifications.notices.model import NewNotice, Notice, NoticeKind, NoticeState

ADD = """
INSERT INTO voicemail.notice
    (id, kind, digest_id, domain, extension, address, mail_message_id, state, detail, settled_at, next_try_at)
SELECT id, kind, digest_id, domain, extension, address, mail_message_id,
    CASE WHEN refused = '' THEN 'queued' ELSE 'cancelled' END, refused,
    CASE WHEN refused <> '' THEN now() END, now() + $9::interval
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
    AS n (id, kind, digest_id, domain, extension, address, mail_message_id, refused)
"""
# An attempt is counted before it is made. Nobody else makes one until its lease, or the pause that would follow it, has passed.
BEGIN = """
UPDATE voicemail.notice SET attempts = attempts + 1, next_try_at = now() + make_interval(
    secs => greatest($2::float8, least($3::float8 * power(2, least(attempts, 30)), $4::float8)))
WHERE id = $1 AND state = 'queued' AND next_try_at <= now()
RETURNING id, kind, digest_id, domain, extension, address, mail_message_id, attempts, unknowns,
    extract(epoch FROM now() - created_at)::float8 AS age
"""
# Before the content goes: from now on it may arrive. If this process dies, nobody tries again before the pause has passed.
EXPOSE = """
UPDATE voicemail.notice SET unknowns = unknowns + 1, next_try_at = now() + make_interval(secs => $3::float8)
WHERE id = $1 AND attempts = $2 AND state = 'queued'
"""
SETTLE = """
UPDATE voicemail.notice SET state = $2, code = $3, detail = $4, unknowns = $5, settled_at = now()
WHERE id = $1 AND state = 'queued'
"""
POSTPONE = """
UPDATE voicemail.notice SET code = $2, detail = $3, unknowns = $4, next_try_at = now() + $5::interval
WHERE id = $1 AND state = 'queued'
"""
# By the partial index notice_due.
DUE = "SELECT id, attempts FROM voicemail.notice WHERE state = 'queued' AND next_try_at <= now() ORDER BY next_try_at LIMIT $1"
# The limits hold for all copies of the service together.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('voicemail.notice', 0))"
# By the indexes notice_domain and notice_address. What was not sent for these limits does not count against them.
TOLD_IN_DOMAIN = """
SELECT extension, lower(address) AS address FROM voicemail.notice
WHERE kind = 'dropped' AND domain = $1 AND state <> 'cancelled' AND created_at > now() - interval '1 hour'
"""
# Of a mailbox's newest mails, by the index notification_mailed.
REACHED = """
SELECT DISTINCT lower(address) AS address FROM voicemail.notification_recipient
WHERE state = 'accepted' AND lower(address) = ANY ($2::text[]) AND notification_id IN (
    SELECT id FROM voicemail.notification WHERE mailbox_id = $1 AND digest_id IS NULL ORDER BY created_at DESC LIMIT 200)
"""
TOLD_ADDRESSES = """
SELECT lower(address) AS address, count(*) AS told FROM voicemail.notice
WHERE kind = 'dropped' AND lower(address) = ANY ($1::text[]) AND state <> 'cancelled' AND created_at > now() - interval '1 hour'
GROUP BY lower(address)
"""
OF_DIGEST = """
SELECT address, state, code, detail, settled_at, unknowns FROM voicemail.notice WHERE digest_id = $1 ORDER BY address
"""
_RECIPIENT_STATES = {
    NoticeState.QUEUED: RecipientState.PENDING,
    NoticeState.SENT: RecipientState.ACCEPTED,
    NoticeState.FAILED: RecipientState.REFUSED,
    NoticeState.UNKNOWN: RecipientState.UNKNOWN,
    NoticeState.CANCELLED: RecipientState.REFUSED,
}


async def add(connection: Connection, notices: Sequence[NewNotice], *, delay: float = 0.0) -> None:
    """Write new notices, to be sent in ``delay`` seconds at the earliest."""
    await connection.execute(
        ADD,
        [n.id for n in notices], [str(n.kind) for n in notices], [n.digest_id for n in notices],
        [n.mailbox.domain for n in notices], [n.mailbox.extension for n in notices], [n.address for n in notices],
        [n.mail_message_id for n in notices], [n.refused for n in notices], timedelta(seconds=delay),
    )  # fmt: skip


async def begin(connection: Connection, notice_id: UUID, retries: Retries) -> Notice | None:
    """Count an attempt and have a lease for it; None if the notice is settled, or not due yet."""
    row = await connection.fetchrow(BEGIN, notice_id, retries.lease, retries.first, retries.longest)
    return row and _notice(row)


async def expose(connection: Connection, notice: Notice, pause: float) -> bool:
    """Note that the content is about to go; False if another attempt has begun since: then it must not go."""
    status: str = await connection.execute(EXPOSE, notice.id, notice.attempts, pause)
    return not status.endswith(" 0")


async def settle(
    connection: Connection, notice_id: UUID, state: NoticeState, *, code: int | None, detail: str, unknowns: int
) -> None:
    """End a queued notice."""
    await connection.execute(SETTLE, notice_id, str(state), code, detail, unknowns)


async def postpone(
    connection: Connection, notice_id: UUID, delay: float, *, code: int | None, detail: str, unknowns: int
) -> None:
    """Leave a notice queued, to be tried in ``delay`` seconds."""
    await connection.execute(POSTPONE, notice_id, code, detail, unknowns, timedelta(seconds=delay))


async def due(connection: Connection, limit: int) -> list[tuple[UUID, int]]:
    """Notices to be tried now, each with how often it was tried."""
    return [(UUID(int=row["id"].int), row["attempts"]) for row in await connection.fetch(DUE, limit)]


async def lock_limits(connection: Connection) -> None:
    """Until the transaction ends, nobody else counts or adds notices to dropped addresses."""
    await connection.execute(LOCK)


async def told_in(connection: Connection, domain: str) -> list[tuple[str, str]]:
    """Of the notices to dropped addresses that a domain wrote within the hour: extension, and address in small letters."""
    return [(row["extension"], row["address"]) for row in await connection.fetch(TOLD_IN_DOMAIN, domain)]


async def reached(connection: Connection, mailbox_id: UUID, addresses: Sequence[str]) -> set[str]:
    """Those of the addresses, in small letters, whose server accepted one of the mailbox's newest mails."""
    return {row["address"] for row in await connection.fetch(REACHED, mailbox_id, addresses)}


async def told(connection: Connection, addresses: Sequence[str]) -> dict[str, int]:
    """How often each of the addresses was told that within the hour, by whatever mailbox. Small letters."""
    return {row["address"]: row["told"] for row in await connection.fetch(TOLD_ADDRESSES, addresses)}


async def recipients(connection: Connection, digest_id: UUID) -> list[Recipient]:
    """Whom a digest went to, as the recipients of a notification."""
    rows = await connection.fetch(OF_DIGEST, digest_id)
    return [_recipient(row) for row in rows]


def _recipient(row: Any) -> Recipient:
    state = _RECIPIENT_STATES[NoticeState(row["state"])]
    if state is RecipientState.PENDING and row["unknowns"]:
        state = RecipientState.UNKNOWN
    return Recipient(row["address"], state, row["code"], row["detail"], row["settled_at"])


def _notice(row: Any) -> Notice:
    digest = row["digest_id"]
    return Notice(
        id=UUID(int=row["id"].int),
        kind=NoticeKind(row["kind"]),
        digest_id=digest and UUID(int=digest.int),
        mailbox=MailboxAddress(Extension(row["extension"]), Domain(row["domain"])),
        address=row["address"],
        mail_message_id=row["mail_message_id"],
        attempts=row["attempts"],
        unknowns=row["unknowns"],
        age=row["age"],
    )
