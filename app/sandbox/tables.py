"""The stand-in's voicemail_msgs and voicemail_prefs, with the statements of mod_voicemail's meaning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from app.database.pool import Pool, close_pool, keep_session, open_pool
from app.errors import DatabaseRefused

log = structlog.get_logger(__name__)

_DEADLOCK = "40P01"  # the SQLSTATE of deadlock_detected

TABLES = Path(__file__).with_name("voicemail_tables.sql")
# Two starts at once must not both create them.
_LOCK = "SELECT pg_advisory_xact_lock(5213960716)"
INSERT = """
INSERT INTO voicemail_msgs (
    created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path, message_len, flags,
    read_flags, forwarded_by
) VALUES ($1, 0, $2, $3, $4, $5, $6, 'inbox', $7, $8, '', 'B_NORMAL', '')
"""
COUNT = """
SELECT count(*) FILTER (WHERE read_epoch = 0) AS new,
       count(*) FILTER (WHERE read_epoch <> 0) AS saved,
       count(*) FILTER (WHERE read_epoch = 0 AND read_flags = 'A_URGENT') AS new_urgent,
       count(*) FILTER (WHERE read_epoch <> 0 AND read_flags = 'A_URGENT') AS saved_urgent
FROM voicemail_msgs WHERE username = $1 AND domain = $2 AND in_folder = $3
"""
OF_MAILBOX = """
SELECT created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path, message_len, flags,
    read_flags
FROM voicemail_msgs
WHERE username = $1 AND domain = $2 AND ($3::text IS NULL OR uuid = $3) ORDER BY read_flags, created_epoch, ctid
"""
DELETE = """
DELETE FROM voicemail_msgs
WHERE CASE WHEN $3::text IS NULL THEN username = $1 AND domain = $2 ELSE uuid = $3 END RETURNING file_path
"""
PURGE = "DELETE FROM voicemail_msgs WHERE username = $1 AND domain = $2 AND flags = 'delete' RETURNING file_path"
READ = "UPDATE voicemail_msgs SET read_epoch = $3 WHERE CASE WHEN $2::text IS NULL THEN domain = $1 ELSE uuid = $2 END"
UNREAD = (
    "UPDATE voicemail_msgs SET read_epoch = 0, flags = '' WHERE CASE WHEN $2::text IS NULL THEN domain = $1 ELSE uuid = $2 END"
)
FLAG = "UPDATE voicemail_msgs SET flags = $4 WHERE username = $1 AND domain = $2 AND uuid = $3"
PREFS = "SELECT greeting_path, name_path, password FROM voicemail_prefs WHERE username = $1 AND domain = $2 LIMIT 1"
# The same statement for three columns; the name is one of those above and never from outside.
SET_PREF = "UPDATE voicemail_prefs SET {column} = $3 WHERE username = $1 AND domain = $2"
ADD_PREF = "INSERT INTO voicemail_prefs (username, domain, {column}) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages a mailbox has; ``new`` and ``saved`` include the urgent ones."""

    new: int
    saved: int
    new_urgent: int
    saved_urgent: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row to be."""

    created_epoch: int
    username: str
    domain: str
    uuid: str
    caller_name: str
    caller_number: str
    path: str
    seconds: int


class StandInTables:
    """mod_voicemail's two tables."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: Pool

    async def open(self) -> None:
        """Connect, and create what is not there."""
        # Without a statement after each: a row that was committed would count as lost if the connection ended during that one.
        self._pool = await open_pool(self._dsn, size=4, application_name="stand-in switch", reset=keep_session)
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(_LOCK)
                    await connection.execute(TABLES.read_text())
                return
            except DatabaseRefused as error:
                if error.sqlstate != _DEADLOCK:
                    raise
                # The service creates an index of its own just now, and each waits for the other until the server ends one.
                log.info("stand_in_tables_again")

    async def close(self) -> None:
        """Disconnect."""
        await close_pool(self._pool)

    async def insert(self, message: NewMessage) -> None:
        """Write the row of a message."""
        await self._pool.execute(
            INSERT, message.created_epoch, message.username, message.domain, message.uuid, message.caller_name,
            message.caller_number, message.path, message.seconds,
        )  # fmt: skip

    async def count(self, username: str, domain: str, folder: str = "inbox") -> Counts:
        """A mailbox's messages."""
        row = await self._pool.fetchrow(COUNT, username, domain, folder)
        return Counts(**row)

    async def messages(self, username: str, domain: str, uuid: str | None = None) -> list[asyncpg.Record]:
        """A mailbox's rows, urgent ones first, then by age."""
        rows: list[asyncpg.Record] = await self._pool.fetch(OF_MAILBOX, username, domain, uuid)
        return rows

    async def delete(self, username: str, domain: str, uuid: str | None) -> list[str]:
        """Delete a uuid in every mailbox that has it, or a whole mailbox; the paths of the files."""
        return [row["file_path"] for row in await self._pool.fetch(DELETE, username, domain, uuid)]

    async def purge(self, username: str, domain: str) -> list[str]:
        """Delete a mailbox's rows that are flagged so; the paths of the files."""
        return [row["file_path"] for row in await self._pool.fetch(PURGE, username, domain)]

    async def mark_read(self, domain: str, uuid: str | None, epoch: int) -> None:
        """Mark a uuid, or the whole domain, as read then."""
        await self._pool.execute(READ, domain, uuid, epoch)

    async def mark_unread(self, domain: str, uuid: str | None) -> None:
        """Mark a uuid, or the whole domain, as new."""
        await self._pool.execute(UNREAD, domain, uuid)

    async def flag(self, username: str, domain: str, uuid: str, flags: str) -> None:
        """Set the flags of a mailbox's message."""
        await self._pool.execute(FLAG, username, domain, uuid, flags)

    async def prefs(self, username: str, domain: str) -> dict[str, Any]:
        """A mailbox's preferences; empty if it has none."""
        row = await self._pool.fetchrow(PREFS, username, domain)
        return {} if row is None else {name: value or "" for name, value in row.items()}

    async def set_pref(self, username: str, domain: str, column: str, value: str) -> None:
        """Set one of a mailbox's preferences."""
        if column not in ("greeting_path", "name_path", "password"):
            raise ValueError(column)
        if await self._pool.execute(SET_PREF.format(column=column), username, domain, value) == "UPDATE 0":
            await self._pool.execute(ADD_PREF.format(column=column), username, domain, value)
