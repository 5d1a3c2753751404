"""SQL over ``voicemail.installation``: the installation's id, its domains, and the faults of its directory folders."""

from app.addressing import Domain
from app.database.pool import Connection

_ID = "id"
MAKE_ID = """
INSERT INTO voicemail.installation (name, value) VALUES ($1, replace(gen_random_uuid()::text, '-', ''))
ON CONFLICT (name) DO NOTHING
"""
VALUE = "SELECT value FROM voicemail.installation WHERE name = $1"
DOMAINS = "SELECT name FROM voicemail.domain ORDER BY name"
NOTE = """
INSERT INTO voicemail.installation (name, value) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE installation.value <> excluded.value
"""


async def domains(connection: Connection) -> list[Domain]:
    """The domains of this installation, by name."""
    return [Domain(row["name"]) for row in await connection.fetch(DOMAINS)]


async def made_id(connection: Connection) -> str:
    """The installation's id, 32 hexadecimal digits, made once for each database."""
    await connection.execute(MAKE_ID, _ID)
    return str(await connection.fetchval(VALUE, _ID))


async def known_id(connection: Connection) -> str | None:
    """The installation's id; None if the service has not used this database yet."""
    found: str | None = await connection.fetchval(VALUE, _ID)
    return found


async def note_directory(connection: Connection, domain: str, trouble: str) -> None:
    """Note what is wrong in the folder of a domain; ``""``: nothing."""
    await connection.execute(NOTE, f"directory of {domain}", trouble)


async def directory_trouble(connection: Connection, domain: str) -> str | None:
    """What the last look at the folder of a domain found wrong, ``""`` for nothing; None if there was no look yet."""
    found: str | None = await connection.fetchval(VALUE, f"directory of {domain}")
    return found
