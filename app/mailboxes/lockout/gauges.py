"""Locked mailboxes and wrong PINs as gauges for ``/metrics``."""

from collections.abc import Mapping

from app.database.pool import Pool
from app.http.metrics import Numbers, Shared, TableGauges
from app.mailboxes.lockout import store
from app.mailboxes.lockout.model import Source


def lockout_gauges(pool: Pool) -> TableGauges:
    """How many mailboxes are locked, and how many wrong PINs were given lately."""
    locked, wrong = "voicemail_mailboxes_locked", "voicemail_wrong_pins"

    async def read() -> Mapping[str, Numbers]:
        row = await pool.fetchrow(store.COUNTS)
        return {locked: {"": row["locked"]}, wrong: {source.value: row[source.value] for source in Source}}

    gauges = {
        locked: Shared("Mailboxes that are locked because too many wrong PINs were given"),
        wrong: Shared(
            "Wrong PINs in the last quarter of an hour, by source; those of a locked mailbox are not counted", "source"
        ),
    }
    return TableGauges(gauges, read)
