"""Databases of the test server: lent to one test after the other, and as new for each."""

from contextlib import suppress
from typing import Any

import asyncpg

# Making a copy of the template costs more than most tests. So a database is emptied and lent again; it is thrown away only if
# its test changed more than rows. Every change of a catalogue below shows here, in the catalogues by a newer transaction; only
# TRUNCATE writes to pg_class too, so that is compared by its columns.
_SHAPE = """
SELECT concat_ws(' ',
    (SELECT md5(string_agg(concat_ws(' ', oid, relname, relnamespace, relkind, relpersistence, relowner, relhastriggers,
                                     relrowsecurity, relacl, reloptions), ',' ORDER BY oid))
       FROM pg_class WHERE oid >= 16384),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_attrdef),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_constraint),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_index WHERE indexrelid >= 16384),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_trigger),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_proc WHERE oid >= 16384),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_type WHERE oid >= 16384),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_namespace),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_rewrite WHERE oid >= 16384),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_extension),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_policy),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_default_acl),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_db_role_setting
      WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))),
    (SELECT (datacl, datconnlimit) FROM pg_database WHERE datname = current_database()),
    -- What ANALYZE found would change the plans of the tests that follow.
    (SELECT count(*) FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema'))
)
"""
_WRITTEN = (
    "SELECT oid::regclass::text FROM pg_class WHERE oid >= 16384 AND relkind = 'r' AND pg_relation_size(oid) > 0 ORDER BY 1"
)
# Tables that a test made are dropped, and so are the indexes that the service makes in the switch's tables when it starts.
_ADDED = """
SELECT CASE relkind WHEN 'r' THEN 'TABLE' ELSE 'INDEX' END, oid::regclass::text
FROM pg_class LEFT JOIN pg_index ON indexrelid = oid
WHERE oid >= 16384 AND oid <> ALL($1::oid[]) AND (relkind = 'r' OR indrelid = ANY($1::oid[]))
"""
_RELATIONS = "SELECT array_agg(oid) FROM pg_class WHERE oid >= 16384"
_ROWS = "SELECT coalesce(jsonb_agg(t), '[]')::text FROM {} t"
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def another(dsn: str, database: str) -> str:
    """The DSN of another database on the same server."""
    return f"{dsn.rpartition('/')[0]}/{database}"


class Databases:
    """Copies of one template."""

    def __init__(self, server: str, template: str) -> None:
        """``server``: a DSN on it whose role may create databases."""
        self._server, self._template = server, template
        self._free: list[str] = []
        self._made = 0
        self._shape: Any = None
        self._relations: list[int] = []
        self._rows: dict[str, str] = {}  # of the template, by table

    async def lend(self) -> str:
        """The DSN of a database that is like the template and nobody else's."""
        if not self._free:
            self._free.append(await self._make())
        return self._free.pop()

    async def take_back(self, dsn: str) -> None:
        """End every session of a database, and make it as new."""
        clean = False
        with suppress(OSError, asyncpg.PostgresError):  # it may be gone, take no connection, or be read-only
            connection = await asyncpg.connect(dsn)
            try:
                await connection.execute(_END_OTHERS)
                clean = await self._clean(connection)
            finally:
                await connection.close()
        if clean:
            self._free.append(dsn)
        else:
            await self._administer(f'DROP DATABASE IF EXISTS "{dsn.rpartition("/")[2]}" WITH (FORCE)')

    async def _make(self) -> str:
        if self._shape is None:
            connection = await asyncpg.connect(another(self._server, self._template))
            self._shape = await connection.fetchval(_SHAPE)
            self._relations = await connection.fetchval(_RELATIONS)
            self._rows = {name: await connection.fetchval(_ROWS.format(name)) for (name,) in await connection.fetch(_WRITTEN)}
            await connection.close()
        self._made += 1
        name = f"test_{self._made}"
        await self._administer(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return another(self._server, name)

    async def _clean(self, connection: asyncpg.Connection) -> bool:
        """Whether it could be made as new."""
        for kind, name in await connection.fetch(_ADDED, self._relations):
            await connection.execute(f"DROP {kind} IF EXISTS {name} CASCADE")
        if await connection.fetchval(_SHAPE) != self._shape:
            return False
        written = {name for (name,) in await connection.fetch(_WRITTEN)}
        kept = {name for name, rows in self._rows.items() if await connection.fetchval(_ROWS.format(name)) == rows}
        if touched := sorted(written - kept):
            await connection.execute(f"TRUNCATE {', '.join(touched)} RESTART IDENTITY CASCADE")
        for name, rows in self._rows.items():  # CASCADE may have emptied those too that were as they had been
            if name in touched or await connection.fetchval(_ROWS.format(name)) != rows:
                await connection.execute(f"TRUNCATE {name} CASCADE")
                await connection.execute(f"INSERT INTO {name} SELECT * FROM jsonb_populate_recordset(NULL::{name}, $1)", rows)
        return True

    async def _administer(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
