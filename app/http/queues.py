"""How much waits in a table that is a queue, and for how long, as gauges for ``/metrics``."""

from collections.abc import Mapping

from app.database.pool import Pool
from app.http.metrics import Numbers, Shared, TableGauges


def queue(pool: Pool, name: str, about: str, statement: str) -> TableGauges:
    """Three gauges of a queue. ``statement`` reads ``waiting``, ``oldest`` and ``overdue`` by an index on what is unfinished."""
    waiting, oldest, overdue = (f"voicemail_{name}_{part}" for part in ("waiting", "oldest_seconds", "overdue_seconds"))

    async def read() -> Mapping[str, Numbers]:
        row = await pool.fetchrow(statement)
        return {waiting: {"": row["waiting"]}, oldest: {"": row["oldest"]}, overdue: {"": row["overdue"]}}

    gauges = {
        waiting: Shared(f"{about} that are not finished"),
        oldest: Shared(f"Age of the oldest of the {about.lower()} that are not finished"),
        overdue: Shared(f"Seconds since the first of the {about.lower()} should have been tried; 0 if none is late"),
    }
    return TableGauges(gauges, read)
