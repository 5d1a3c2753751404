"""The documented set-up: the service adds and reads rows of the audit, and can do nothing else with them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.access.audit import store
from app.access.audit.model import Action, AuditEntry
from app.access.audit.readings import Readings
from app.access.audit.retention import Retention
from app.database.pool import Pool, open_pool
from app.doctor.audit import check_audit
from tests.support.access_tokens import OPERATOR

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"
OLD = "INSERT INTO voicemail.audit (at, actor, action, result) SELECT now() - make_interval(days => $1), 'service', 'request', 'done'"


def documented(service: str, owner: str) -> str:
    """The statements of the documentation, for these roles."""
    block = DOCUMENT.read_text().partition("<!-- audit protection -->\n```sql\n")[2].partition("```")[0]
    assert "ALTER TABLE voicemail.audit OWNER TO voicemail_audit" in block
    return block.replace("voicemail_audit", owner).replace("TO voicemail;", f"TO {service};")


class Protected:
    """A database whose audit belongs to another role than the service's."""

    def __init__(self, dsn: str, admin: asyncpg.Connection) -> None:
        self.dsn, self.admin = dsn, admin


@pytest.fixture
async def protected(postgres: str, database: str) -> AsyncIterator[Protected]:
    """The set-up of the documentation. The test's own role stands for the administrator, so the service's is a new one."""
    name = database.rpartition("/")[2]
    service, owner = f"service_{name}", f"owner_{name}"
    admin = await asyncpg.connect(database)
    superuser = await admin.fetchval("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    if not superuser:
        await admin.close()
        pytest.skip("the test's role may not make roles")
    await admin.execute(f"CREATE ROLE {service} LOGIN PASSWORD 'x'")
    await admin.execute(f"GRANT CREATE ON DATABASE {name} TO {service}")
    try:
        await admin.execute(f"ALTER SCHEMA voicemail OWNER TO {service}")
        await admin.execute(documented(service, owner))
        host = database.rpartition("@")[2]
        yield Protected(f"postgresql://{service}:x@{host}", admin)
    finally:
        await admin.execute(f"DROP SCHEMA voicemail CASCADE; DROP OWNED BY {service}, {owner}; DROP ROLE {service}, {owner}")
        await admin.close()
