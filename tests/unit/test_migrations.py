"""Migrations: applied once, in order, whole or not at all, and never on a schema they do not fit."""

from app.database.migrations import migrate, sql_folder
from app.database.pool import Pool


async def test_a_fresh_database_gets_every_file_and_a_second_run_does_nothing(pool: Pool, database: str) -> None:
    assert await migrate(database) == []
    names = [row["name"] for row in await pool.fetch("SELECT name FROM voicemail.schema_migration ORDER BY name")]
    assert names == sorted(path.name for path in sql_folder().glob("*.sql"))
