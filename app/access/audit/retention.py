"""Forgets old rows of the audit, by the one function of the database that may."""

from app.access.audit import store
from app.database.pool import Pool
from app.jobs.loop import Loop
from app.jobs.retries import Retries

_EVERY = 3600.0  # seconds
_BATCH = 5_000
_RETRIES = Retries(first=60.0, longest=_EVERY)


class Retention:
    """Keeps the audit for so many days, or for as many as the policy in the database says if that is longer."""

    def __init__(self, pool: Pool, days: int) -> None:
        self._pool, self._days = pool, days

    async def run(self) -> None:
        """Look every hour until cancelled. One process at a time is enough."""
        await Loop("audit_retention", self.step, every=_EVERY, retries=_RETRIES).run()

    async def step(self) -> None:
        """Forget what is older, in short transactions."""
        while await store.purge(self._pool, self._days, _BATCH) == _BATCH:
            pass
