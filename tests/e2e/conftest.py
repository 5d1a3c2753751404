"""A PBX for every end-to-end test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pbx import Site


@pytest.fixture
async def site(database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A PBX that runs."""
    site = Site(database, tmp_path)
    try:
        await site.open()
        yield site
    finally:
        await site.close()
