"""How many messages mailboxes have, counted in ``voicemail_msgs`` by one statement for any number of mailboxes."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.addressing import MailboxAddress
from app.database.readers import Source
from app.switch.tables.messages import _SHOWN, reading_table

# By the service's own index on mailboxes.
OF_MAILBOXES = f"""
SELECT c.* FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS m (username, domain, place)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE coalesce(r.read_epoch, 0) <= 0), count(*) FILTER (WHERE r.flags = 'save'),
        count(*) FILTER (WHERE r.read_flags = 'A_URGENT'), coalesce(sum(greatest(r.message_len, 0)), 0)::bigint
    FROM voicemail_msgs r WHERE r.username = m.username AND r.domain = m.domain AND r.{_SHOWN}
) c
ORDER BY m.place
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class Counts:
    """The messages of a mailbox without those flagged deleted; one message may count as several of these."""

    new: int  # that nobody listened to
    saved: int
    urgent: int
    seconds: int  # of all


async def of_mailboxes(source: Source, addresses: Sequence[MailboxAddress]) -> list[Counts]:
    """The counts of each mailbox, in the same order."""
    if not addresses:
        return []
    names = [str(address.extension) for address in addresses], [str(address.domain) for address in addresses]
    with reading_table():
        return [Counts(*record) for record in await source.fetch(OF_MAILBOXES, *names)]
