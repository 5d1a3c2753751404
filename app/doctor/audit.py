"""Which set-up of the audit is there: may the service's own role change or remove what it wrote?"""

from collections.abc import Mapping
from typing import Any

from app.database.pool import connect
from app.doctor.report import Finding, failed, ok, skipped, warning
from app.errors import DatabaseFailed

_CHECK = "audit"
_HERE = "SELECT to_regclass('voicemail.audit') IS NOT NULL"
# Whoever owns a table, its schema or the function has every right on them or can take it; so has a member of the owner's role.
_FACTS = """
SELECT current_user AS role,
    has_table_privilege(a.oid, 'INSERT') AS adds,
    has_table_privilege(a.oid, 'SELECT') AND has_table_privilege(p.oid, 'SELECT') AS reads,
    has_function_privilege(f.oid, 'EXECUTE') AS purges,
    has_table_privilege(a.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER') OR pg_has_role(a.relowner, 'MEMBER') AS changes,
    has_table_privilege(p.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') OR pg_has_role(p.relowner, 'MEMBER') AS sets_policy,
    pg_has_role(n.nspowner, 'MEMBER') AS owns_schema,
    pg_has_role(f.proowner, 'MEMBER') AS owns_function
FROM pg_class a JOIN pg_namespace n ON n.oid = a.relnamespace
CROSS JOIN (SELECT oid, relowner FROM pg_class WHERE oid = 'voicemail.audit_policy'::regclass) p
CROSS JOIN (SELECT oid, proowner FROM pg_proc WHERE oid = 'voicemail.purge_audit(integer, integer)'::regprocedure) f
WHERE a.oid = 'voicemail.audit'::regclass
"""
_POLICY = "SELECT max(keep_days) FROM voicemail.audit_policy"


async def check_audit(dsn: str) -> list[Finding]:
    """The rights of the service's role on the audit; nothing before the first start, which the check of the schema tells of."""
    try:
        connection = await connect(dsn, application_name="doctor")
    except DatabaseFailed as error:
        return [skipped(_CHECK, error.reason)]
    try:
        if not await connection.fetchval(_HERE):
            return []
        facts = await connection.fetchrow(_FACTS)
        if (finding := _lacking(facts)) is not None:
            return [finding]
        open_to = [
            words
            for fact, words in (
                ("changes", "change or remove rows"),
                ("sets_policy", "shorten how long they are kept"),
                ("owns_schema", "drop the table, because it owns the schema"),
                ("owns_function", "replace the function that purges"),
            )
            if facts[fact]
        ]
        if open_to:
            may = ", ".join(open_to)
            return [ok(_CHECK, f"not protected: {facts['role']} may {may}; docs/operations.md says how to protect it")]
        days = await connection.fetchval(_POLICY)
        return [ok(_CHECK, f"protected: {facts['role']} may add and read rows only, and purge those older than {days} days")]
    except DatabaseFailed as error:
        return [skipped(_CHECK, f"cannot be looked at: {error.reason}")]
    finally:
        await connection.close()


def _lacking(facts: Mapping[str, Any]) -> Finding | None:
    """What the service cannot do without."""
    role = facts["role"]
    if not facts["adds"]:
        return failed(
            _CHECK,
            f"{role} may not add rows",
            "every change and every download fails, because none is made without its row",
            f'GRANT SELECT, INSERT ON voicemail.audit TO "{role}"',
        )
    if not (facts["reads"] and facts["purges"]):
        return warning(
            _CHECK,
            f"{role} may add rows, but not {'purge old ones' if facts['reads'] else 'read them'}",
            "GET /v1/audit fails" if not facts["reads"] else "the table grows for ever",
            f'GRANT SELECT ON voicemail.audit, voicemail.audit_policy TO "{role}"; '
            f'GRANT EXECUTE ON FUNCTION voicemail.purge_audit(integer, integer) TO "{role}"',
        )
    return None
