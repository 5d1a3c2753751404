"""One running service for all tests of a module; each test works on extensions of its own."""

import itertools
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.support.databases import another
from tests.support.pbx import Site, stand_in


@pytest.fixture(scope="module")
async def api(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The service with its stand-in switch and mail catcher."""
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE test_api TEMPLATE {template}")
    folder, dsn = tmp_path_factory.mktemp("api"), another(postgres, "test_api")
    site = Site(dsn, folder, stand_in(dsn, folder))
    try:
        await site.open()
        yield site
    finally:
        await site.close()
        await admin.execute("DROP DATABASE test_api WITH (FORCE)")
        await admin.close()


@pytest.fixture(scope="session")
def extensions() -> Iterator[str]:
    """Extensions nobody has used."""
    return (str(number) for number in itertools.count(10_000))


@pytest.fixture
def extension(extensions: Iterator[str]) -> str:
    """An extension of the test's own."""
    return next(extensions)
