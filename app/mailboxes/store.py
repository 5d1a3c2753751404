"""SQL over ``voicemail.mailbox``; what the switch has of a mailbox comes along from ``voicemail.directory_entry``."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress, MailboxKey
from app.database.pool import Connection
from app.mailboxes.model import DirectoryState, DirectoryStatus, Lock, Mailbox, join_addresses, split_addresses

_COLUMNS = """m.id, m.domain, m.extension, m.pin_encrypted, m.mail_to, m.local_after_email, m.enabled, m.description, m.time_zone,
    coalesce(e.state, 'pending') AS state, coalesce(e.detail, '') AS detail,
    l.locked_until, l.number"""
_FROM = """voicemail.mailbox m LEFT JOIN voicemail.directory_entry e ON e.domain = m.domain AND e.extension = m.extension
    LEFT JOIN voicemail.mailbox_lock l ON l.mailbox_id = m.id"""

# Both by unique indexes.
FIND = f"SELECT {_COLUMNS} FROM {_FROM} WHERE m.domain = $1 AND m.extension = $2"  # noqa: S608 - constants of this module
GET = f"SELECT {_COLUMNS} FROM {_FROM} WHERE m.domain = $1 AND m.id = $2"  # noqa: S608
LOCK_FOUND = f"{FIND} FOR UPDATE OF m"
LOCK_GOT = f"{GET} FOR UPDATE OF m"
# Until the transaction ends nobody deletes the domain.
HAS_DOMAIN = "SELECT FROM voicemail.domain WHERE name = $1 FOR KEY SHARE"
# By the unique index on (domain, extension), in its order; total and rows are of one moment.
PAGE = f"""
SELECT (SELECT count(*) FROM voicemail.mailbox WHERE domain = $1) AS total, {_COLUMNS}
FROM {_FROM} WHERE m.domain = $1 ORDER BY m.extension LIMIT $2 OFFSET $3
"""  # noqa: S608
COUNT = "SELECT count(*) FROM voicemail.mailbox WHERE domain = $1"
# $1: the domains, NULL: every one.
PAGE_OF_MANY = f"""
SELECT (SELECT count(*) FROM voicemail.mailbox WHERE $1::text[] IS NULL OR domain = ANY ($1)) AS total, {_COLUMNS}
FROM {_FROM} WHERE $1::text[] IS NULL OR m.domain = ANY ($1) ORDER BY m.domain, m.extension LIMIT $2 OFFSET $3
"""  # noqa: S608
COUNT_OF_MANY = "SELECT count(*) FROM voicemail.mailbox WHERE $1::text[] IS NULL OR domain = ANY ($1)"
FIND_MANY = f"SELECT {_COLUMNS} FROM {_FROM} WHERE m.domain = $1 AND m.extension = ANY($2::text[])"  # noqa: S608
INSERT = """
INSERT INTO voicemail.mailbox
    (id, domain, extension, pin_encrypted, mail_to, local_after_email, enabled, description, time_zone)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT DO NOTHING
RETURNING id
"""
UPDATE = """
UPDATE voicemail.mailbox
SET pin_encrypted = $2, mail_to = $3, local_after_email = $4, enabled = $5, description = $6, time_zone = $7, updated_at = now()
WHERE id = $1
"""
DELETE = "DELETE FROM voicemail.mailbox WHERE id = $1"


async def find(connection: Connection, domain: str, extension: str) -> Mailbox | None:
    """The mailbox of an extension in a domain."""
    row = await connection.fetchrow(FIND, domain, extension)
    return row and _mailbox(row)


async def find_key(connection: Connection, domain: Domain, key: MailboxKey, *, lock: bool = False) -> Mailbox | None:
    """The mailbox of a domain with this id, or else this extension. ``lock``: nobody else changes it meanwhile."""
    row = None
    if key.id is not None:
        row = await connection.fetchrow(LOCK_GOT if lock else GET, domain, key.id)
    if row is None and key.extension is not None:
        row = await connection.fetchrow(LOCK_FOUND if lock else FIND, domain, key.extension)
    return row and _mailbox(row)


async def lock(connection: Connection, domain: str, extension: str) -> Mailbox | None:
    """As ``find``, and nobody else changes it until the transaction ends."""
    row = await connection.fetchrow(LOCK_FOUND, domain, extension)
    return row and _mailbox(row)


async def has_domain(connection: Connection, domain: Domain) -> bool:
    """Whether there is this domain; it stays until the transaction ends."""
    return await connection.fetchrow(HAS_DOMAIN, domain) is not None


async def page(
    connection: Connection,
    domains: frozenset[Domain] | None,
    alone: MailboxAddress | None,
    *,
    limit: int,
    offset: int,
) -> tuple[list[Mailbox], int]:
    """The mailboxes of some domains (None: of all) by domain and extension, and how many there are; ``alone``: only it."""
    if alone is not None:
        seen = domains is None or alone.domain in domains
        found = await find(connection, alone.domain, alone.extension) if seen else None
        return ([found] if found else [])[offset : offset + limit], int(found is not None)
    wanted: Domain | list[Domain] | None
    if domains is not None and len(domains) == 1:
        (wanted,), statement, count = domains, PAGE, COUNT  # the plan follows the index
    else:
        wanted, statement, count = None if domains is None else sorted(domains), PAGE_OF_MANY, COUNT_OF_MANY
    rows = await connection.fetch(statement, wanted, limit, offset)
    total = rows[0]["total"] if rows else await connection.fetchval(count, wanted)
    return [_mailbox(row) for row in rows], int(total)


async def find_many(connection: Connection, domain: str, extensions: Sequence[str]) -> dict[str, Mailbox]:
    """The mailboxes of these extensions, by extension."""
    return {row["extension"]: _mailbox(row) for row in await connection.fetch(FIND_MANY, domain, extensions)}


async def insert(connection: Connection, mailbox: Mailbox) -> bool:
    """Keep a new mailbox; False if its extension or its id is taken."""
    found = await connection.fetchval(INSERT, mailbox.id, mailbox.address.domain, mailbox.address.extension, *_values(mailbox))
    return found is not None


async def update(connection: Connection, mailbox: Mailbox) -> None:
    """Write all changeable fields of a mailbox."""
    await connection.execute(UPDATE, mailbox.id, *_values(mailbox))


async def delete(connection: Connection, mailbox_id: UUID) -> None:
    """Forget a mailbox."""
    await connection.execute(DELETE, mailbox_id)


def _values(mailbox: Mailbox) -> tuple[object, ...]:
    return (
        mailbox.sealed_pin,
        join_addresses(mailbox.mail_to),
        mailbox.local_after_email,
        mailbox.enabled,
        mailbox.description,
        mailbox.time_zone,
    )


def _mailbox(row: Mapping[str, Any]) -> Mailbox:
    return Mailbox(
        id=UUID(int=row["id"].int),
        address=MailboxAddress(Extension(row["extension"]), Domain(row["domain"])),
        sealed_pin=row["pin_encrypted"],
        mail_to=split_addresses(row["mail_to"]),
        local_after_email=row["local_after_email"],
        enabled=row["enabled"],
        description=row["description"],
        time_zone=row["time_zone"],
        directory=DirectoryState(DirectoryStatus(row["state"]), row["detail"]),
        lock=Lock(row["locked_until"], row["number"]) if row["locked_until"] else None,
    )
