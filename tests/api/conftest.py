"""One running service for all tests of the API; each test works on extensions of its own."""

import itertools
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from databases import another
from pbx import Site, stand_in


@pytest.fixture(scope="session")
async def api(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The service with its stand-in switch and mail catcher."""
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE test_api TEMPLATE {template}")
    await admin.close()
    folder = tmp_path_factory.mktemp("api")
    dsn = another(postgres, "test_api")
    site = Site(dsn, folder, stand_in(dsn, folder))
    await site.open()
    yield site
    await site.close()


@pytest.fixture(scope="session")
def extensions() -> Iterator[str]:
    """Extensions nobody has used."""
    return (str(number) for number in itertools.count(10_000))


@pytest.fixture
def extension(extensions: Iterator[str]) -> str:
    """An extension of the test's own."""
    return next(extensions)
