"""SQL over ``voicemail.mailbox`` and ``voicemail.directory_entry``."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.mailboxes.model import DirectoryState, DirectoryStatus, Mailbox, split_addresses

_COLUMNS = """m.id, m.domain, m.extension, m.pin_encrypted, m.mail_to, m.local_after_email, m.enabled, m.description, m.time_zone,
    coalesce(e.state, 'pending') AS state, coalesce(e.detail, '') AS detail"""
_FROM = "voicemail.mailbox m LEFT JOIN voicemail.directory_entry e ON e.domain = m.domain AND e.extension = m.extension"

# Both by unique indexes.
FIND = f"SELECT {_COLUMNS} FROM {_FROM} WHERE m.domain = $1 AND m.extension = $2"  # noqa: S608 - constants of this module
GET = f"SELECT {_COLUMNS} FROM {_FROM} WHERE m.id = $1"  # noqa: S608


async def find(connection: Connection, domain: str, extension: str) -> Mailbox | None:
    """The mailbox of an extension in a domain."""
    row = await connection.fetchrow(FIND, domain, extension)
    return row and _mailbox(row)


async def get(connection: Connection, mailbox_id: UUID) -> Mailbox | None:
    """The mailbox with this id."""
    row = await connection.fetchrow(GET, mailbox_id)
    return row and _mailbox(row)


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
    )
