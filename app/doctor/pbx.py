"""Is this a PBX whose voicemail is not mod_voicemail? Its messages would never be seen here."""

from pathlib import Path

from app.database.pool import connect
from app.doctor.report import Finding, ok, warning
from app.errors import DatabaseFailed

NAME = "voicemail of the PBX"
# FusionPBX, and FS PBX which descends from it: a Lua script takes the messages and keeps them in tables of its own.
_TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname IN ('v_voicemails', 'v_voicemail_messages') AND c.relkind IN ('r', 'p', 'v') ORDER BY c.relname
"""
_DATABASES = "SELECT datname FROM pg_database WHERE datname IN ('fusionpbx', 'fspbx') ORDER BY datname"
_FOLDERS = tuple(Path(folder) for folder in ("/etc/fusionpbx", "/etc/fspbx", "/var/www/fusionpbx", "/var/www/fspbx"))


async def check_pbx(switch_dsn: str | None) -> list[Finding]:
    """Look for FusionPBX and FS PBX in the switch's database, beside it and on this host."""
    signs = [str(folder) for folder in _FOLDERS if folder.is_dir()]
    if switch_dsn is not None:
        try:
            connection = await connect(switch_dsn, application_name="doctor")
        except DatabaseFailed:
            return []  # the check before said so
        try:
            signs += [f"table {table}" for (table,) in await connection.fetch(_TABLES)]
            signs += [f"database {name}" for (name,) in await connection.fetch(_DATABASES)]
        finally:
            await connection.close()
    if not signs:
        return [ok(NAME, "mod_voicemail, as far as can be seen")]
    return [
        warning(
            NAME,
            f"this looks like FusionPBX or FS PBX ({', '.join(signs)})",
            "their voicemail is a script with tables of its own (v_voicemails, v_voicemail_messages): mod_voicemail takes no "
            "message there, so this service has nothing to list or mail",
            "keep their voicemail, or send calls to mod_voicemail in the dialplan (docs/freeswitch.md)",
        )
    ]
