"""SQL over ``voicemail.notification`` and its recipients: the ledger of mails. All times are the database's."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.access.grant import Reach
from app.database.pool import Connection
from app.jobs.retries import Retries
from app.messages.removal_store import RemovalState
from app.notifications.model import (
    AFTER_MAIL,
    Draft,
    MailRetries,
    Notification,
    NotificationState,
    Outcome,
    Recipient,
    RecipientState,
    RecordingState,
    Source,
)

# By the index on what is queued, so the size of the ledger does not matter.
WAITING = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest,
    greatest(extract(epoch FROM now() - min(next_try_at)), 0)::float8 AS overdue
FROM voicemail.notification WHERE state = 'queued'
"""
_COLUMNS = """n.id, n.message_id, n.mailbox_id, n.domain, n.extension, n.mail_message_id, n.local_after_email, n.state, n.detail,
    n.attempts, n.unknowns, n.next_try_at, n.created_at, n.settled_at, n.digest_id,
    r.state AS removal_state, coalesce(r.detail, n.recording_detail) AS recording_detail, coalesce(r.tries, 0) AS recording_tries,
    m.row_key, m.domain AS row_domain, m.username, m.uuid, m.file_path, m.recording,
    m.caller_name, m.caller_number, m.created_epoch, m.duration"""
_MESSAGE = f"""voicemail.message m
    LEFT JOIN voicemail.removal r ON r.message_id = m.id AND r.reason = '{AFTER_MAIL}'"""
# The lease of a try, or the pause that would follow it, whichever is longer.
_LEASE = "make_interval(secs => greatest($2::float8, least($3::float8 * power(2, least({}, 30)), $4::float8)))"
_SENDING = "the mail was being sent: whether it arrived is not known"
# What a client of the API is told. Once the file is gone only MWI is left to do.
_FATES = {
    None: RecordingState.KEPT,
    RemovalState.ASKED: RecordingState.DELETING,
    RemovalState.DELETING: RecordingState.DELETING,
    RemovalState.ROW_GONE: RecordingState.DELETING,
    RemovalState.FILE_GONE: RecordingState.DELETED,
    RemovalState.TOLD: RecordingState.DELETED,
    RemovalState.DELETED: RecordingState.DELETED,
    RemovalState.KEPT: RecordingState.KEPT,
}

ADD = """
INSERT INTO voicemail.notification
    (id, message_id, mailbox_id, domain, extension, mail_message_id, local_after_email, digest_id,
    state, settled_at, detail, recording_detail)
SELECT n.*, CASE WHEN digest_id IS NULL THEN 'queued' ELSE 'digested' END, CASE WHEN digest_id IS NOT NULL THEN now() END,
    CASE WHEN digest_id IS NULL THEN '' ELSE $9 END, CASE WHEN digest_id IS NULL THEN '' ELSE $10 END
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::uuid[])
    AS n (id, message_id, mailbox_id, domain, extension, mail_message_id, local_after_email, digest_id)
ON CONFLICT (message_id) DO NOTHING
RETURNING id
"""
_DIGESTED = "the mailbox had its mails of this hour: the message is announced in a digest"
_NOT_CARRIED = "no mail carried the recording"
ADD_RECIPIENTS = """
INSERT INTO voicemail.notification_recipient (notification_id, address)
SELECT * FROM unnest($1::uuid[], $2::text[])
ON CONFLICT (notification_id, address) DO NOTHING
"""

# An attempt is counted before it is made, and nobody else makes one until its lease has passed: a mail whose sending kills the
# process is not sent for ever. The count is also what EXPOSE goes by: an attempt that another one overtook sends nothing.
BEGIN = f"""
UPDATE voicemail.notification n SET attempts = n.attempts + 1, next_try_at = now() + {_LEASE.format("n.attempts")}
FROM {_MESSAGE}
WHERE n.id = $1 AND m.id = n.message_id AND n.state = 'queued' AND n.next_try_at <= now()
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants of this module
RECIPIENTS = """
SELECT address, state, code, reply, settled_at FROM voicemail.notification_recipient WHERE notification_id = $1 ORDER BY address
"""
DROP_RECIPIENTS = """
DELETE FROM voicemail.notification_recipient
WHERE notification_id = $1 AND state IN ('pending', 'unknown') AND NOT address = ANY($2::text[])
"""
# Before the content goes: from now on it may arrive. If this process dies, nobody tries again before the pause has passed.
EXPOSE = """
WITH attempt AS (
    UPDATE voicemail.notification SET unknowns = unknowns + 1, next_try_at = now() + make_interval(secs => $4::float8)
    WHERE id = $1 AND attempts = $2 AND state = 'queued'
    RETURNING id
)
UPDATE voicemail.notification_recipient r SET state = 'unknown', code = NULL, reply = $5
FROM attempt WHERE r.notification_id = attempt.id AND r.address = ANY($3::text[]) AND r.state IN ('pending', 'unknown')
"""
RECORD = """
UPDATE voicemail.notification_recipient r
SET state = o.state, code = o.code, reply = o.reply, settled_at = CASE WHEN o.state IN ('accepted', 'refused') THEN now() END
FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[]) AS o (address, state, code, reply)
WHERE r.notification_id = $1 AND r.address = o.address AND r.state IN ('pending', 'unknown')
"""
UNKNOWNS = "UPDATE voicemail.notification SET unknowns = $2 WHERE id = $1 AND unknowns <> $2"
CLOSE = """
UPDATE voicemail.notification
SET state = $2, detail = $3, settled_at = now(), recording_detail = $4
WHERE id = $1 AND state = 'queued'
"""
POSTPONE = """
UPDATE voicemail.notification SET detail = $2, next_try_at = now() + $3::interval, recording_detail = $4
WHERE id = $1 AND state = 'queued'
"""
AGE = "SELECT now() - created_at FROM voicemail.notification WHERE id = $1"

# By the partial index notification_due.
DUE = """
SELECT id, attempts FROM voicemail.notification WHERE state = 'queued' AND next_try_at <= now() ORDER BY next_try_at LIMIT $1
"""

OF_MESSAGE = f"""
SELECT {_COLUMNS} FROM voicemail.notification n JOIN ({_MESSAGE}) ON m.id = n.message_id WHERE n.message_id = $1
"""  # noqa: S608
WITHIN = f"{OF_MESSAGE} AND ($2::text[] IS NULL OR n.domain = ANY($2)) AND ($3::text IS NULL OR n.extension = $3)"
NEWEST_OF_MAILBOX = f"""
SELECT {_COLUMNS} FROM voicemail.notification n JOIN ({_MESSAGE}) ON m.id = n.message_id
WHERE n.domain = ANY($1::text[]) AND n.extension = $2 ORDER BY n.created_at DESC, n.id LIMIT 1
"""  # noqa: S608


async def add(connection: Connection, drafts: Sequence[Draft]) -> list[UUID]:
    """Write new notifications with their recipients; the ids of those to be mailed, whose message had none yet."""
    rows = await connection.fetch(
        ADD,
        [d.id for d in drafts], [d.message_id for d in drafts], [d.mailbox_id for d in drafts],
        [d.address.domain for d in drafts], [d.address.extension for d in drafts], [d.mail_message_id for d in drafts],
        [d.local_after_email for d in drafts], [d.digest_id for d in drafts], _DIGESTED, _NOT_CARRIED,
    )  # fmt: skip
    added = {row["id"] for row in rows}
    mailed = [d for d in drafts if d.id in added and d.digest_id is None]
    pairs = [(d.id, address) for d in mailed for address in d.recipients]
    await connection.execute(ADD_RECIPIENTS, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return [d.id for d in mailed]


async def begin(connection: Connection, notification_id: UUID, retries: Retries) -> Notification | None:
    """Count an attempt and have a lease for it; None if the mail is settled, or not due yet."""
    row = await connection.fetchrow(BEGIN, notification_id, retries.lease, retries.first, retries.longest)
    return row and _notification(row)


async def recipients(connection: Connection, notification_id: UUID) -> list[Recipient]:
    """Every recipient of a notification, by address."""
    return [_recipient(row) for row in await connection.fetch(RECIPIENTS, notification_id)]


async def align(connection: Connection, notification_id: UUID, addresses: Iterable[str]) -> None:
    """Make ``addresses`` the recipients, and keep those already accepted or refused."""
    wanted = list(addresses)
    await connection.execute(DROP_RECIPIENTS, notification_id, wanted)
    await connection.execute(ADD_RECIPIENTS, [notification_id] * len(wanted), wanted)


async def record(connection: Connection, notification_id: UUID, outcomes: Sequence[Outcome]) -> None:
    """Keep what an attempt came to for each recipient; one that was accepted or refused stays so."""
    await connection.execute(
        RECORD, notification_id,
        [o.address for o in outcomes], [str(o.state) for o in outcomes], [o.code for o in outcomes], [o.reply for o in outcomes],
    )  # fmt: skip


async def expose(connection: Connection, notification: Notification, addresses: Sequence[str], retries: MailRetries) -> bool:
    """Note that the content is about to go to ``addresses``; False if another attempt has begun since: then it must not go."""
    status: str = await connection.execute(
        EXPOSE, notification.id, notification.attempts, list(addresses), retries.unknown_pause, _SENDING
    )
    return not status.endswith(" 0")


async def count_unknowns(connection: Connection, notification_id: UUID, unknowns: int) -> None:
    """Correct how many attempts had no answer: ``expose`` had counted one before its answer was known."""
    await connection.execute(UNKNOWNS, notification_id, unknowns)


async def close(
    connection: Connection,
    notification_id: UUID,
    state: NotificationState,
    detail: str,
    *,
    recording_detail: str,
) -> None:
    """Settle a queued notification; ``recording_detail``: why the recording is kept, if no removal is asked for."""
    await connection.execute(CLOSE, notification_id, str(state), detail, recording_detail)


async def postpone(connection: Connection, notification_id: UUID, detail: str, delay: float, *, recording_detail: str) -> None:
    """Leave a notification queued, to be tried in ``delay`` seconds; ``recording_detail``: why the recording must stay, if so."""
    await connection.execute(POSTPONE, notification_id, detail, timedelta(seconds=delay), recording_detail)


async def age(connection: Connection, notification_id: UUID) -> float:
    """Seconds since a notification was queued."""
    found: timedelta | None = await connection.fetchval(AGE, notification_id)
    return found.total_seconds() if found is not None else 0.0


async def due(connection: Connection, limit: int) -> list[tuple[UUID, int]]:
    """Mails to be tried now, each with how often it was tried."""
    return [(UUID(int=row["id"].int), row["attempts"]) for row in await connection.fetch(DUE, limit)]


async def of_message(connection: Connection, message_id: UUID) -> Notification | None:
    """The notification of a message, which may be gone from the switch."""
    row = await connection.fetchrow(OF_MESSAGE, message_id)
    return row and _notification(row)


async def within(connection: Connection, message_id: UUID, reach: Reach) -> Notification | None:
    """As ``of_message``, if the mailbox is within reach."""
    domains = None if reach.domains is None else list(reach.domains)
    row = await connection.fetchrow(WITHIN, message_id, domains, reach.extension)
    return row and _notification(row)


async def newest_of_mailbox(connection: Connection, reach: Reach, extension: str) -> Notification | None:
    """The newest notification of an extension in the domains within reach, by the index notification_mailbox."""
    row = await connection.fetchrow(NEWEST_OF_MAILBOX, list(reach.domains or ()), extension)
    return row and _notification(row)


def _recipient(row: Any) -> Recipient:
    return Recipient(row["address"], RecipientState(row["state"]), row["code"], row["reply"], row["settled_at"])


def _notification(row: Any) -> Notification:
    digest = row["digest_id"]
    return Notification(
        id=UUID(int=row["id"].int),
        message_id=UUID(int=row["message_id"].int),
        mailbox_id=UUID(int=row["mailbox_id"].int),
        domain=row["domain"],
        extension=row["extension"],
        mail_message_id=row["mail_message_id"],
        local_after_email=row["local_after_email"],
        state=NotificationState(row["state"]),
        detail=row["detail"],
        attempts=row["attempts"],
        unknowns=row["unknowns"],
        next_try_at=row["next_try_at"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
        recording_state=_FATES[row["removal_state"]],
        recording_detail=row["recording_detail"],
        recording_tries=row["recording_tries"],
        digest_id=digest and UUID(int=digest.int),
        source=Source(
            key=row["row_key"],
            domain=row["row_domain"],
            username=row["username"],
            uuid=row["uuid"],
            file_path=row["file_path"],
            recording=row["recording"],
            caller_name=row["caller_name"],
            caller_number=row["caller_number"],
            created_epoch=row["created_epoch"],
            duration=row["duration"],
        ),
    )
