"""Pages that are answered again while PostgreSQL itself says that nothing was committed since they were made.

A page is never older than its request: the snapshot is asked after the request came. On a server that commits all the time every
page is made anew, and costs one short question more.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import Protocol

_MOST = 32 * 1024 * 1024  # bytes of pages


class SnapshotSource(Protocol):
    """``app.database.snapshot.Snapshots``."""

    async def current(self) -> str | None:
        """What two equal ones of which mean that nothing was committed in between; None: not known."""


class UnchangedPages:
    """The pages of the newest snapshot."""

    def __init__(self, snapshots: SnapshotSource, *, most: int = _MOST) -> None:
        self._snapshots = snapshots
        self._most = most
        self._snapshot: str | None = None
        self._pages: dict[Hashable, bytes] = {}
        self._size = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """The page of this key, made only where something was committed since it was last made."""
        snapshot = await self._snapshots.current()
        if snapshot is None:
            return await make()
        if snapshot != self._snapshot:
            self._forget(snapshot)
        page = self._pages.get(key)
        if page is None:
            page = await make()
            # What was committed while it was made changed the snapshot, and then it is not found again.
            if snapshot == self._snapshot:
                self._keep(key, page, snapshot)
        return page

    def _keep(self, key: Hashable, page: bytes, snapshot: str) -> None:
        if self._size + len(page) > self._most:
            self._forget(snapshot)
        if len(page) <= self._most and key not in self._pages:
            self._pages[key] = page
            self._size += len(page)

    def _forget(self, snapshot: str) -> None:
        self._snapshot = snapshot
        self._pages.clear()
        self._size = 0
