"""The documented set-up: the service adds and reads rows of the audit, and can do nothing else with them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from app.access.audit.model import Action, AuditEntry
from app.access.audit.readings import Readings
from app.access.audit.retention import Retention
from app.database.migrations import migrate
from app.database.pool import Pool, open_pool
from app.doctor.audit import check_audit
from app.doctor.report import State
from app.embedded.postgres import EmbeddedPostgres
from app.errors import DatabaseRefused, MissingRight
from tests.conftest import FAST
from tests.support.access_tokens import OPERATOR

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"
OLD = """
INSERT INTO voicemail.audit (at, actor, action, result)
SELECT now() - make_interval(days => n), 'service', 'request', 'done' FROM generate_series($1::integer, $2::integer) n
"""
ENTRY = AuditEntry.of(OPERATOR, Action.DOMAIN_CREATE, domain="a.example")


def documented() -> str:
    """The statements of the documentation."""
    block = DOCUMENT.read_text().partition("<!-- audit protection -->\n```sql\n")[2].partition("```")[0]
    assert "ALTER TABLE voicemail.audit OWNER TO voicemail_audit" in block
    return block


@dataclass(frozen=True)
class Protected:
    """A database after the documented set-up: the service's way in, and a superuser's."""

    dsn: str
    service: Pool
    superuser: asyncpg.Connection


@pytest.fixture(scope="module")
async def protected(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Protected]:
    """A server of its own, because a superuser is needed, which the other tests' server has for nobody."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("protected") / "postgres", FAST)
    async with server:
        cluster = server._cluster
        assert cluster is not None
    await asyncio.to_thread(cluster._single_user, cluster.data, "ALTER ROLE postgres PASSWORD 'secret';\n")
    async with server as dsn:
        superuser = await asyncpg.connect(f"postgresql://postgres:secret@{dsn.rpartition('@')[2]}")
        await migrate(dsn)
        await superuser.execute(documented())
        service = await open_pool(dsn, size=3, application_name="test")
        try:
            yield Protected(dsn, service, superuser)
        finally:
            service.terminate()
            await superuser.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE voicemail.audit SET name = 'another'", "DELETE FROM voicemail.audit", "TRUNCATE voicemail.audit", "DROP TABLE voicemail.audit",
        "DROP SCHEMA voicemail CASCADE", "ALTER TABLE voicemail.audit RENAME TO gone", "ALTER TABLE voicemail.audit OWNER TO voicemail",
        "GRANT DELETE ON voicemail.audit TO voicemail; DELETE FROM voicemail.audit", "SET ROLE voicemail_audit", "ALTER SCHEMA voicemail RENAME TO gone",
        "CREATE TRIGGER t BEFORE INSERT ON voicemail.audit FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE r AS ON INSERT TO voicemail.audit DO INSTEAD NOTHING", "ALTER TABLE voicemail.audit DISABLE TRIGGER ALL",
        "UPDATE voicemail.audit_policy SET keep_days = 1", "DELETE FROM voicemail.audit_policy", "DROP TABLE voicemail.audit_policy",
        "CREATE OR REPLACE FUNCTION voicemail.purge_audit(keep_days integer, most integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION voicemail.purge_audit(integer, integer)", "DROP INDEX voicemail.audit_domain",
    ],
)  # fmt: skip
async def test_the_service_s_role_may_not(protected: Protected, statement: str) -> None:
    await Readings(protected.service).note(ENTRY)
    before = await protected.superuser.fetchval("SELECT count(*) FROM voicemail.audit")

    with pytest.raises(MissingRight):
        await protected.service.execute(statement)

    assert await protected.superuser.fetchval("SELECT count(*) FROM voicemail.audit") == before


async def test_it_purges_only_what_is_older_than_the_policy(protected: Protected) -> None:
    await protected.superuser.execute(OLD, 364, 367)

    await Retention(protected.service, days=1).step()

    old = "SELECT count(*) FROM voicemail.audit WHERE at < now() - interval '363 days'"
    assert await protected.superuser.fetchval(old) == 1
    for days in (-400, 0, None):
        await protected.service.fetchval("SELECT voicemail.purge_audit($1, 1000)", days)
    assert await protected.superuser.fetchval(old) == 1


async def test_tables_of_its_own_are_still_made_and_migrated(protected: Protected) -> None:
    assert await migrate(protected.dsn) == []

    await protected.service.execute("CREATE TABLE voicemail.later (x integer); DROP TABLE voicemail.later")


async def test_the_doctor_says_that_it_is_protected(protected: Protected) -> None:
    (finding,) = await check_audit(protected.dsn)

    assert (finding.check, finding.state) == ("audit", State.OK)
    assert finding.found == "protected: voicemail may add and read rows only, and purge those older than 365 days"


@pytest.mark.parametrize(
    ("right", "state", "said"),
    [
        ("INSERT ON voicemail.audit", State.FAILED, "may not add rows"),
        ("SELECT ON voicemail.audit_policy", State.WARNING, "not read them"),
        ("EXECUTE ON FUNCTION voicemail.purge_audit(integer, integer)", State.WARNING, "not purge old ones"),
    ],
)
async def test_the_doctor_names_a_right_that_is_missing(protected: Protected, right: str, state: State, said: str) -> None:
    await protected.superuser.execute(f"REVOKE {right} FROM voicemail")
    try:
        (finding,) = await check_audit(protected.dsn)
    finally:
        await protected.superuser.execute(f"GRANT {right} TO voicemail")

    assert finding.state is state
    assert said in finding.found
    assert "GRANT" in finding.remedy


@pytest.mark.parametrize(
    ("opening", "closing", "said"),
    [
        ("GRANT DELETE ON voicemail.audit TO voicemail", "REVOKE DELETE ON voicemail.audit FROM voicemail", "remove rows"),
        ("GRANT voicemail_audit TO voicemail", "REVOKE voicemail_audit FROM voicemail", "replace the function"),
        ("GRANT UPDATE ON voicemail.audit_policy TO PUBLIC", "REVOKE UPDATE ON voicemail.audit_policy FROM PUBLIC", "how long"),
        ("ALTER SCHEMA voicemail OWNER TO voicemail", "ALTER SCHEMA voicemail OWNER TO voicemail_audit", "owns the schema"),
        ("ALTER ROLE voicemail SUPERUSER", "ALTER ROLE voicemail NOSUPERUSER", "change or remove"),
    ],
)
async def test_the_doctor_finds_each_hole(protected: Protected, opening: str, closing: str, said: str) -> None:
    await protected.superuser.execute(opening)
    try:
        (finding,) = await check_audit(protected.dsn)
    finally:
        await protected.superuser.execute(closing)

    assert finding.found.startswith("not protected: voicemail may ")
    assert said in finding.found


async def test_without_that_set_up_the_doctor_says_so(database: str) -> None:
    (finding,) = await check_audit(database)

    assert (finding.state, finding.found.partition(":")[0]) == (State.OK, "not protected")


async def test_without_that_set_up_old_rows_go_after_the_days_of_the_setting(pool: Pool) -> None:
    await pool.execute(OLD, 1, 40)

    await Retention(pool, days=30).step()

    assert await pool.fetchval("SELECT count(*) FROM voicemail.audit") == 29
    await pool.execute("UPDATE voicemail.audit_policy SET keep_days = 10")
    await Retention(pool, days=5).step()
    assert await pool.fetchval("SELECT count(*) FROM voicemail.audit") == 9


async def test_readings_that_come_at_once_are_all_written_also_for_a_caller_that_gave_up(pool: Pool) -> None:
    readings = Readings(pool)
    tasks = [asyncio.ensure_future(readings.note(ENTRY)) for _ in range(200)]
    await asyncio.sleep(0)
    tasks[7].cancel()

    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [place for place, error in enumerate(found) if error is not None] == [7]
    assert await pool.fetchval("SELECT count(*) FROM voicemail.audit") == 200


async def test_a_reading_that_cannot_be_written_is_told_to_its_caller_and_the_next_is_written(pool: Pool) -> None:
    readings = Readings(pool)
    await pool.execute("ALTER TABLE voicemail.audit RENAME TO away")
    found = await asyncio.gather(*(readings.note(ENTRY) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, DatabaseRefused) for error in found)

    await pool.execute("ALTER TABLE voicemail.away RENAME TO audit")
    await readings.note(ENTRY)

    assert await pool.fetchval("SELECT count(*) FROM voicemail.audit") == 1
