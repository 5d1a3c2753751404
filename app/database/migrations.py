"""Brings the schema ``voicemail`` up to date with the numbered files of ``sql/``, each once and in its own transaction."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

import app
from app.database.pool import Connection, connect
from app.errors import DatabaseRefused, MissingRight, VoicemailError

log = structlog.get_logger(__name__)

OLDEST_SERVER = 13
_LOCK = 0x766F6963656D01  # "voicem", 1: one process at a time changes the schema
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class SchemaError(VoicemailError):
    """The database's schema and this release do not fit together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``sql/``."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The digest that shows if a file was changed after it was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def sql_folder() -> Path:
    """The folder of the migrations: inside an installed package, or at the top of a checkout."""
    package = Path(app.__file__).parent
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent / "sql"


def read_migrations(folder: Path) -> list[Migration]:
    """The migrations of a folder in their order. Raises ``SchemaError`` if a number is missing or doubled."""
    found = [
        Migration(int(match[1]), path.name, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.sql"))
        if (match := _NAME.match(path.name))
    ]
    if not found:
        raise SchemaError(f"there are no migrations in {folder}")
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise SchemaError(f"the migrations in {folder} have no number {expected:04d} or have it twice, near {migration.name}")
    return found


async def migrate(target: str | Connection, folder: Path | None = None) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    ``target`` is a DSN or a connection outside a transaction. Any number of processes may call this at once.
    Raises ``SchemaError`` if the schema was made by other files, ``DatabaseUnavailable`` if the database does not answer.
    """
    migrations = read_migrations(folder or sql_folder())
    if not isinstance(target, str):
        return await _migrate(target, migrations)
    connection = await connect(target, application_name="migrate", command_timeout=None)
    try:
        return await _migrate(connection, migrations)
    finally:
        await connection.close()


async def _migrate(connection: Connection, migrations: Sequence[Migration]) -> list[str]:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise SchemaError(f"PostgreSQL {version.major} is too old: {OLDEST_SERVER} or newer is needed")
    async with _turn(connection):
        await _prepare(connection)
        applied = await _applied(connection)
        _check(migrations, applied)
        pending = [migration for migration in migrations if migration.name not in applied]
        for migration in pending:
            await _apply(connection, migration)
    return [migration.name for migration in pending]


@asynccontextmanager
async def _turn(connection: Connection) -> AsyncIterator[None]:
    # Polled: a session that waits for a lock inside PostgreSQL holds a snapshot, and CREATE INDEX CONCURRENTLY waits for that.
    waiting = False
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        if not waiting:
            log.info("schema_waiting", detail="another process is changing the schema")
        waiting = True
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _prepare(connection: Connection) -> None:
    try:
        # CREATE SCHEMA IF NOT EXISTS needs the right to create one even if it exists.
        if await connection.fetchval("SELECT to_regnamespace('voicemail')") is None:
            await connection.execute("CREATE SCHEMA voicemail")
        await connection.execute("""
            CREATE TABLE IF NOT EXISTS voicemail.schema_migration (
                name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
            )""")
    except MissingRight as error:
        role = await connection.fetchval("SELECT current_user")
        raise SchemaError(
            f"the role {role} may not make its schema ({error.__cause__}): "
            f'let an administrator run CREATE SCHEMA voicemail AUTHORIZATION "{role}"'
        ) from error


async def _applied(connection: Connection) -> dict[str, str]:
    rows = await connection.fetch("SELECT name, sha256 FROM voicemail.schema_migration ORDER BY name")
    return {row["name"]: row["sha256"] for row in rows}


def _check(migrations: Sequence[Migration], applied: Mapping[str, str]) -> None:
    names = [migration.name for migration in migrations]
    for name in applied:
        if name not in names:
            newer = name > names[-1]
            raise SchemaError(
                f"the database has {name}, and this release does not know it"
                + (": it was migrated by a newer release; install that one" if newer else "; restore that file")
            )
    for migration in migrations:
        if migration.name in applied and applied[migration.name] != migration.sha256:
            raise SchemaError(f"{migration.name} was changed after it was applied; restore the file and add a new one instead")
    for migration in migrations[: len(applied)]:
        if migration.name not in applied:
            raise SchemaError(f"{migration.name} was never applied, although later ones were")


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.text)
            await connection.execute(
                "INSERT INTO voicemail.schema_migration (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
            )
    except DatabaseRefused as error:
        raise SchemaError(f"{migration.name} failed and nothing of it was applied: {error.__cause__}") from error
    log.info("schema_migrated", name=migration.name)
