"""A page of the list in one statement, if the switch's table and ours are in one database.

A row's id is looked up by the row's own texts, over an index of ours that holds the messages of a mailbox side by side and all
that is asked for: neither a hash nor a look at the table is needed. Rows that are not recorded yet come without an id, and so do
rows whose texts no index can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from app.database.readers import Readers
from app.messages.model import Message
from app.switch.tables import messages as store

# id or None, created_epoch, caller_name, caller_number, duration, read, extension, the mailbox's time_zone or None, total.
# Texts are as the switch has them. By position: a name for each value of each row would cost as much as reading them.
Line: TypeAlias = tuple[str | None, int, str, str, int, bool, str, str | None, int]

_LINE = """coalesce(p.created_epoch, 0)::bigint, coalesce(p.cid_name, ''), coalesce(p.cid_number, ''),
    greatest(p.message_len, 0)::bigint, coalesce(p.read_epoch, 0) > 0, coalesce(p.username, '')"""
_ID = """(
        SELECT m.id::text FROM voicemail.message m
        WHERE m.username = {username} AND m.domain = {domain} AND m.created_epoch = coalesce(p.created_epoch, 0)
          AND m.uuid = coalesce(p.uuid, '') AND m.file_path = coalesce(p.file_path, '') AND m.exact
    )"""
_ZONE = "(SELECT b.time_zone FROM voicemail.mailbox b WHERE b.domain = {domain} AND b.extension = {username})"


def _page(where: str, order: str, limit: str, offset: str, *, username: str, domain: str) -> str:
    # The total stands in each row, and in a row of its own if the page is empty. Both are of one moment.
    return f"""
SELECT p.*, t.total FROM (SELECT count(*) AS total FROM voicemail_msgs WHERE {where}) t
LEFT JOIN LATERAL (
    SELECT {_ID.format(username=username, domain=domain)}, {_LINE}, {_ZONE.format(username=username, domain=domain)}
    FROM (
        SELECT r.* FROM voicemail_msgs r WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {offset}
    ) p
) p ON true
"""  # noqa: S608 - constants of this module


OF_MAILBOX = _page(store.OF_MAILBOX, store.MAILBOX_ORDER, "$3", "$4", username="$1", domain="$2")
OF_DOMAIN = _page(store.OF_DOMAIN, store.DOMAIN_ORDER, "$2", "$3", username="coalesce(p.username, '')", domain="$1")


@dataclass(frozen=True, slots=True)
class Lines:
    """A page: its lines, newest first, and how many there are in all."""

    lines: Sequence[Line]
    total: int

    @property
    def complete(self) -> bool:
        """Whether each line has its id."""
        return all(line[0] is not None for line in self.lines)


async def page(readers: Readers, domain: str, extension: str | None, *, limit: int, offset: int) -> Lines:
    """The messages of a domain, or of one mailbox in it, without those flagged deleted."""
    with store.reading_table():
        if extension is None:
            rows: list[Any] = await readers.fetch(OF_DOMAIN, domain, limit, offset)
        else:
            rows = await readers.fetch(OF_MAILBOX, extension, domain, limit, offset)
    return Lines(rows if rows[0][1] is not None else (), rows[0][-1])


def line(message: Message, total: int) -> Line:
    """A message of a page of ``total`` that was read in another way."""
    row = message.row
    return (
        str(message.id), row.created_epoch, row.caller_name, row.caller_number, max(row.duration, 0), message.read,
        row.username, message.time_zone, total,
    )  # fmt: skip
