"""A real PostgreSQL for every test: one server a run, one fresh database a test."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from app.database.migrations import migrate
from app.database.pool import Pool, open_pool
from app.embedded.postgres import EmbeddedPostgres
from app.sandbox.tables import TABLES
from tests.support.access_tokens import LAB, make_domains
from tests.support.databases import Databases, another
from tests.support.pbx import Site, stand_in

# A test's program is compiled once, not at each of its hundreds of starts, also where images ask for the contrary.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell has background jobs ignore SIGINT, and a program that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE = "template_voicemail"
# Nothing in these databases has to outlive a power cut; tests of durability start servers of their own.
# Autovacuum's workers are a superuser's, and our role may not end them to drop a database in which one is at work.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The DSN of a server for this run, one a worker of pytest-xdist; its role may create databases."""
    async with EmbeddedPostgres(tmp_path_factory.mktemp("database") / "postgres", FAST) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def template(postgres: str) -> str:
    """A database with the service's schema and the switch's tables, to be copied."""
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    await admin.close()
    dsn = another(postgres, TEMPLATE)
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute(TABLES.read_text())
    await make_domains(connection, LAB)
    await connection.close()
    return TEMPLATE


@pytest.fixture(scope="session")
def databases(postgres: str, template: str) -> Databases:
    """Copies of the template, for tests that need more than one, or one for a module."""
    return Databases(postgres, template)


@pytest.fixture(scope="session")
def database_numbers() -> "count[int]":
    """What keeps the names of a run's databases apart."""
    return count(1)


@pytest.fixture
async def database(databases: Databases) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database with the switch's own tables in it."""
    dsn = await databases.lend()
    try:
        yield dsn
    finally:
        await databases.take_back(dsn)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on the test's database."""
    pool = await open_pool(database, application_name="test")
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def stand_in_site(database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A PBX with the stand-in, for what no real call can be made to do."""
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    try:
        await site.open()
        yield site
    finally:
        await site.close()
