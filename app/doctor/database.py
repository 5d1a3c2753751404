"""Checks the database, its schema, and the switch's tables."""

from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from app.addressing import Domain
from app.database.migrations import OLDEST_SERVER, read_migrations, sql_folder
from app.database.pool import Connection, connect
from app.doctor.report import Finding, State, failed, ok, skipped, warning
from app.errors import DatabaseFailed, MissingRight, MissingTable
from app.mailboxes.directory import installation
from app.switch.tables.indexes import INDEXES, THERE, statement

MESSAGE_COLUMNS = {
    "created_epoch", "read_epoch", "username", "domain", "uuid", "cid_name", "cid_number", "in_folder", "file_path",
    "message_len", "flags", "read_flags", "forwarded_by",
}  # fmt: skip
PREFS_COLUMNS = {"username", "domain", "name_path", "greeting_path", "password"}

_COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = ANY (current_schemas(false)) AND table_name = $1
"""
_MAY = "SELECT has_table_privilege($1, $2)"
# An administrator may have made the schema for this role, and then it needs no right to create one.
_MAY_MIGRATE = """
SELECT CASE WHEN to_regnamespace('voicemail') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
ELSE has_schema_privilege('voicemail', 'CREATE') END
"""
# CREATE INDEX is for the table's owner and its members; the service's first start tries it.
_OWNS = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('voicemail_msgs')"
_APPLIED = "SELECT name FROM voicemail.schema_migration"


def where(dsn: str) -> str:
    """Host, port and database of a DSN, without its password."""
    parts = urlsplit(dsn)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


async def check_database(dsn: str) -> list[Finding]:
    """The service's own database: reachable, new enough, schema up to date."""
    name = "database"
    try:
        connection = await connect(dsn, application_name="doctor")
    except DatabaseFailed as error:
        return [
            failed(
                name,
                f"{where(dsn)} cannot be used: {error.reason}",
                "neither the API nor mail can work",
                "start PostgreSQL, or mend VOICEMAIL_DATABASE_URL (host, port, database, role and password)",
            )
        ]
    try:
        version = connection.get_server_version()
        if version.major < OLDEST_SERVER:
            return [failed(name, f"PostgreSQL {version.major}", f"{OLDEST_SERVER} or newer is needed", "upgrade PostgreSQL")]
        return [ok(name, f"PostgreSQL {version.major}.{version.minor} at {where(dsn)}"), await _schema(connection)]
    finally:
        await connection.close()


async def _schema(connection: Connection) -> Finding:
    known = [migration.name for migration in read_migrations(sql_folder())]
    try:
        applied = {row["name"] for row in await connection.fetch(_APPLIED)}
    except MissingTable:
        return await _first_start(connection, len(known))
    except MissingRight:
        role = await connection.fetchval("SELECT current_user")
        return failed(
            "schema",
            f"{role} may not read the schema voicemail",
            "the service does not start",
            f'give it to this role: ALTER SCHEMA voicemail OWNER TO "{role}", and each of its tables',
        )
    newer = sorted(applied - set(known))
    missing = [name for name in known if name not in applied]
    if newer:
        return failed("schema", f"holds {newer[0]}", "a newer release migrated this database", "install that release")
    if missing:
        return warning(
            "schema",
            f"{len(missing)} migration(s) to come, first {missing[0]}",
            "the next start applies them",
            "voicemail migrate",
        )
    return ok("schema", f"version {known[-1].removesuffix('.sql')}")


async def _first_start(connection: Connection, migrations: int) -> Finding:
    """No schema yet: the first start makes it, if the role may."""
    if await connection.fetchval(_MAY_MIGRATE):
        return ok("schema", f"not there yet: the first start makes it ({migrations} migrations)")
    role = await connection.fetchval("SELECT current_user")
    return failed(
        "schema",
        f"not there yet, and {role} may not make it",
        "the first start fails",
        f'let an administrator run CREATE SCHEMA voicemail AUTHORIZATION "{role}"',
    )


async def check_switch_tables(dsn: str) -> list[Finding]:
    """Check that mod_voicemail's tables exist, have the columns of 1.10, and are accessible to this role."""
    name = "voicemail_msgs"
    try:
        connection = await connect(dsn, application_name="doctor")
    except DatabaseFailed as error:
        return [
            failed(
                name,
                f"{where(dsn)} cannot be used: {error.reason}",
                "no message can be read",
                "start PostgreSQL, or mend VOICEMAIL_SWITCH_DATABASE_URL",
            )
        ]
    try:
        found = [
            await _table(connection, name, MESSAGE_COLUMNS, ("SELECT", "INSERT", "DELETE")),
            await _table(connection, "voicemail_prefs", PREFS_COLUMNS, ("SELECT", "INSERT", "UPDATE")),
        ]
        return found if found[0].state is State.FAILED else [*found, await _indexes(connection)]
    finally:
        await connection.close()


async def _table(connection: Connection, table: str, columns: set[str], rights: Sequence[str]) -> Finding:
    found = {row["column_name"] for row in await connection.fetch(_COLUMNS, table)}
    if not found:
        return failed(
            table,
            "there is no such table that this role can see",
            "mod_voicemail keeps its messages elsewhere, or has not been loaded yet",
            "set the profile's odbc-dsn to this database, load mod_pgsql before mod_voicemail, and grant this role SELECT",
        )
    if missing := sorted(columns - found):
        return failed(
            table,
            f"lacks {', '.join(missing)}",
            "it is not a table of mod_voicemail 1.10",
            "let FreeSWITCH recreate it or upgrade",
        )
    role = await connection.fetchval("SELECT current_user")
    lacking = [right for right in rights if not await connection.fetchval(_MAY, table, right)]
    if "SELECT" in lacking:
        return failed(table, f"{role} may not read it", "no message can be read", f'GRANT SELECT ON {table} TO "{role}"')
    if lacking:
        return warning(
            table,
            f"{role} may read it, but not {', '.join(lacking)}",
            "a changed PIN, a mailbox's lock, the removal of a mailed message, or a row that the switch lost, cannot be written",
            f'GRANT {", ".join(lacking)} ON {table} TO "{role}"',
        )
    return ok(table, f"{len(found)} columns, {' and '.join(rights)} allowed")


async def _indexes(connection: Connection) -> Finding:
    """Without these a page of messages sorts the whole mailbox or domain."""
    name = "indexes of voicemail_msgs"
    there = {index: valid for index, valid, _building in await connection.fetch(THERE, list(INDEXES))}
    missing = [index for index in INDEXES if not there.get(index)]
    if not missing:
        return ok(name, f"{len(INDEXES)}, as the service reads")
    if await connection.fetchval(_OWNS):
        return ok(name, f"{len(missing)} to come: the service makes them when it runs")
    broken = [f"DROP INDEX CONCURRENTLY {index};" for index in missing if index in there]
    role = await connection.fetchval("SELECT current_user")
    return warning(
        name,
        f"{', '.join(missing)} missing, and {role} does not own the table",
        "lists of messages become slower with every message that is kept",
        "\n             ".join(["as the owner of the table:", *broken, *(f"{statement(index)};" for index in missing)]),
    )


async def hosted_domains(dsn: str | None, default: str) -> list[Domain]:
    """Every domain that the service has, the default one first; that alone if the database cannot say."""
    found = [Domain.parse(default)]
    if dsn is not None:
        with suppress(DatabaseFailed):
            connection = await connect(dsn, application_name="doctor")
            try:
                found += await installation.domains(connection)
            finally:
                await connection.close()
    return list(dict.fromkeys(found))


def check_embedded() -> list[Finding]:
    """The embedded server was asked for; a real switch cannot be using it."""
    return [
        warning(
            "database",
            "VOICEMAIL_DATABASE_URL is embedded: the service runs a PostgreSQL of its own",
            "it listens on 127.0.0.1 only and stops with the service",
            "set VOICEMAIL_DATABASE_URL to the database of the switch",
        ),
        skipped("schema", "the service migrates the embedded database itself"),
    ]
