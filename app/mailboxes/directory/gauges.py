"""The state of the switch's directory as gauges for ``/metrics``."""

from collections.abc import Mapping

from app.database.pool import Pool
from app.http.metrics import Numbers, Shared, TableGauges
from app.mailboxes.directory import store
from app.mailboxes.model import DirectoryStatus

_KEEP = 15.0  # seconds


def directory_gauges(pool: Pool) -> tuple[TableGauges, ...]:
    """How many entries are in which state, and how late the first unapplied one is."""
    entries, overdue = "voicemail_directory_entries", "voicemail_directory_overdue_seconds"

    async def states() -> Mapping[str, Numbers]:
        found = {row["state"]: row["entries"] for row in await pool.fetch(store.STATES)}
        return {entries: {state.value: found.get(state.value, 0) for state in DirectoryStatus}}

    async def late() -> Mapping[str, Numbers]:
        return {overdue: {"": await pool.fetchval(store.OVERDUE)}}

    about = "Mailboxes, and removals under way, by whether the switch's directory has them as they should be"
    return (
        TableGauges({entries: Shared(about, "state")}, states, keep=_KEEP),
        TableGauges({overdue: Shared("Seconds since the first unapplied entry should have been tried; 0 if none is late")}, late),
    )
