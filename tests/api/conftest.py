"""One running service for all tests of a module; each test works on extensions of its own."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.databases import Databases
from tests.support.pbx import Site, stand_in


@pytest.fixture(scope="module")
async def api(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The service with its stand-in switch and mail catcher."""
    folder, dsn = tmp_path_factory.mktemp("api"), await databases.lend()
    site = Site(dsn, folder, stand_in(dsn, folder))
    try:
        await site.open()
        yield site
    finally:
        await site.close()
        await databases.take_back(dsn)


@pytest.fixture(scope="session")
def extensions() -> Iterator[str]:
    """Extensions nobody has used."""
    return (str(number) for number in itertools.count(10_000))


@pytest.fixture
def extension(extensions: Iterator[str]) -> str:
    """An extension of the test's own."""
    return next(extensions)
