"""How many messages mailboxes have: those on the switch, and those in the trash."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.database.readers import Source
from app.switch.tables import counts
from app.switch.tables.counts import Counts

# By the index on the messages of a mailbox.
IN_TRASH = """
SELECT c.number FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS m (username, domain, place)
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM voicemail.message r JOIN voicemail.trash t ON t.message_id = r.id
    WHERE r.username = m.username AND r.domain = m.domain
) c
ORDER BY m.place
"""


class CountsOut(TypedDict):
    """How many messages a mailbox has; one message may count as several of these."""

    new: Annotated[int, Field(description="that nobody listened to")]
    saved: int
    urgent: int
    seconds: Annotated[int, Field(description="of all of them, without those in the trash")]
    trash: Annotated[int, Field(description="that were deleted and can be restored")]


@dataclass(frozen=True, slots=True)
class MailboxCounts:
    """The messages of a mailbox."""

    there: Counts
    trash: int

    def out(self) -> CountsOut:
        """The counts as the API shows them."""
        there = self.there
        return {"new": there.new, "saved": there.saved, "urgent": there.urgent, "seconds": there.seconds, "trash": self.trash}


async def of_mailboxes(switch: Source, pool: Pool, addresses: Sequence[MailboxAddress]) -> list[MailboxCounts]:
    """The counts of each mailbox, in the same order: one statement over the switch's table, and one over the trash."""
    there, trash = await asyncio.gather(counts.of_mailboxes(switch, addresses), _in_trash(pool, addresses))
    return [MailboxCounts(found, number) for found, number in zip(there, trash, strict=True)]


async def _in_trash(pool: Pool, addresses: Sequence[MailboxAddress]) -> list[int]:
    if not addresses:
        return []
    names = [str(address.extension) for address in addresses], [str(address.domain) for address in addresses]
    return [record["number"] for record in await pool.fetch(IN_TRASH, *names)]
