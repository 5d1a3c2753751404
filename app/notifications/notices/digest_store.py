"""SQL over ``voicemail.digest``: which messages have no mail of their own, and when one mail tells of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.notifications.notices.model import Digest, Missed

# By the partial index notification_mailed; no more rows than the limit are read.
MAILED = """
SELECT count(*) FROM (
    SELECT FROM voicemail.notification
    WHERE mailbox_id = $1 AND digest_id IS NULL AND created_at > now() - $2::interval LIMIT $3) AS mailed
"""
# Due when the oldest mail of the hour is an hour old, and at least an hour after the mailbox's last digest.
OPEN = """
INSERT INTO voicemail.digest (id, mailbox_id, domain, extension, mail_message_id, due_at)
VALUES ($1, $2, $3, $4, $5, $6::interval + greatest(
    coalesce((SELECT min(created_at) FROM voicemail.notification
        WHERE mailbox_id = $2 AND digest_id IS NULL AND created_at > now() - $6::interval), now()),
    (SELECT max(due_at) FROM voicemail.digest WHERE mailbox_id = $2)))
ON CONFLICT (mailbox_id) WHERE closed_at IS NULL DO NOTHING
"""
# The lock keeps it open until what is added is committed.
OPENED = """
SELECT id, mail_message_id, extract(epoch FROM due_at - now())::float8 AS delay FROM voicemail.digest
WHERE mailbox_id = $1 AND closed_at IS NULL FOR UPDATE
"""
CLOSE = """
UPDATE voicemail.digest SET closed_at = now() WHERE id = $1 AND closed_at IS NULL AND due_at <= now()
RETURNING id, mailbox_id, domain, extension, mail_message_id
"""
# By the partial index digest_due.
DUE = "SELECT id FROM voicemail.digest WHERE closed_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT $1"
MISSED = """
SELECT m.caller_name, m.caller_number, m.created_epoch, m.duration
FROM voicemail.notification n JOIN voicemail.message m ON m.id = n.message_id
WHERE n.digest_id = $1 ORDER BY m.created_epoch, m.id LIMIT $2
"""
COUNT = "SELECT count(*) FROM voicemail.notification WHERE digest_id = $1"


async def mailed(connection: Connection, mailbox_id: UUID, hour: float, limit: int) -> int:
    """How many mails a mailbox had within the hour, at most ``limit``."""
    return int(await connection.fetchval(MAILED, mailbox_id, timedelta(seconds=hour), limit))


async def open_for(connection: Connection, digest: Digest, hour: float) -> tuple[Digest, float]:
    """The digest of this mailbox that takes messages, ``digest`` if there is none, and in how many seconds it is due."""
    box = digest.mailbox
    while True:  # one that is closed meanwhile takes no more
        await connection.execute(
            OPEN, digest.id, digest.mailbox_id, box.domain, box.extension, digest.mail_message_id, timedelta(seconds=hour)
        )
        if row := await connection.fetchrow(OPENED, digest.mailbox_id):
            opened = replace(digest, id=UUID(int=row["id"].int), mail_message_id=row["mail_message_id"])
            return opened, max(row["delay"], 0.0)


async def close(connection: Connection, digest_id: UUID) -> Digest | None:
    """Close a digest; None if it is closed already, or not due yet."""
    row = await connection.fetchrow(CLOSE, digest_id)
    return row and _digest(row)


async def due(connection: Connection, limit: int) -> list[tuple[UUID, int]]:
    """Digests to be closed now, as the sweep wants them."""
    return [(UUID(int=row["id"].int), 0) for row in await connection.fetch(DUE, limit)]


async def missed(connection: Connection, digest_id: UUID, limit: int) -> tuple[Sequence[Missed], int]:
    """The messages of a digest, oldest first and at most ``limit``, and how many there are."""
    rows = await connection.fetch(MISSED, digest_id, limit)
    found = [Missed(row["caller_name"], row["caller_number"], row["created_epoch"], row["duration"]) for row in rows]
    return found, int(await connection.fetchval(COUNT, digest_id))


def _digest(row: Any) -> Digest:
    return Digest(
        id=UUID(int=row["id"].int),
        mailbox_id=UUID(int=row["mailbox_id"].int),
        mailbox=MailboxAddress(Extension(row["extension"]), Domain(row["domain"])),
        mail_message_id=row["mail_message_id"],
    )
