"""A page of the list in one statement, if the switch's table and ours are in one database.

A row's id is looked up by the row's own texts, over an index of ours that holds the messages of a mailbox side by side and all
that is asked for: neither a hash nor a look at the table is needed. Rows that are not recorded yet come without an id, and so do
rows whose texts no index can hold.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.database.readers import Readers
from app.messages.model import SAVED, URGENT, Message, RecordingState
from app.messages.store import WHOLE
from app.switch.tables import messages as store
from app.switch.tables.search import NUMBER_KEPT, Key

# id or None, created_epoch, caller_name, caller_number, duration, read_epoch, extension, domain, urgent, saved, forwarded_by,
# file_path, the recording's size or None, whether it holds audio or None, the state of the mail or None, the time zone of the
# mailbox or else of its domain or None, uuid in the last row of a full page (else None), total. Texts are as the switch has them.
# By position: a name for each value of each row would cost as much as reading them.
Line: TypeAlias = tuple[
    str | None, int, str, str, int, int, str, str, bool, bool, str, str, int | None, bool | None, str | None, str | None,
    str | None, int,
]  # fmt: skip

_LINE = """coalesce(p.created_epoch, 0)::bigint, coalesce(p.cid_name, ''), coalesce(p.cid_number, ''),
    greatest(p.message_len, 0)::bigint, coalesce(p.read_epoch, 0)::bigint, coalesce(p.username, ''), coalesce(p.domain, ''),
    p.read_flags IS NOT DISTINCT FROM 'A_URGENT', p.flags IS NOT DISTINCT FROM 'save', coalesce(p.forwarded_by, ''),
    coalesce(p.file_path, '')"""
# LIMIT keeps PostgreSQL from joining whole tables: each message's record, recording and mail are looked up by their keys.
_RECORD = """LEFT JOIN LATERAL (
        SELECT m.id::text, r.size, {whole} AS whole, n.state FROM voicemail.message m
        LEFT JOIN voicemail.recording r ON r.path = m.recording
        LEFT JOIN voicemail.notification n ON n.message_id = m.id
        WHERE m.username = {username} AND m.domain = {domain} AND m.created_epoch = coalesce(p.created_epoch, 0)
          AND m.uuid = coalesce(p.uuid, '') AND m.file_path = coalesce(p.file_path, '') AND m.exact
        LIMIT 1
    ) m ON true"""
# A part that names no column of the row is looked up once for the whole page.
_ZONE = """coalesce(
        (SELECT b.time_zone FROM voicemail.mailbox b WHERE b.domain = {domain} AND b.extension = {username}),
        (SELECT d.time_zone FROM voicemail.domain d WHERE d.name = {domain})
    )"""
# For the cursor; that of every row would be a third of the answer.
_LAST = "CASE WHEN row_number() OVER () = {limit} THEN p.uuid END"
_USERNAME, _DOMAIN = "coalesce(p.username, '')", "coalesce(p.domain, '')"


def _page(choice: store.Choice, *, username: str = _USERNAME, domain: str = _DOMAIN) -> str:
    # The total stands in each row, and in a row of its own if the page is empty. Both are of one moment.
    return f"""
SELECT p.*, t.total FROM (SELECT count(*) AS total FROM voicemail_msgs WHERE {choice.where}) t
LEFT JOIN LATERAL (
    SELECT m.id, {_LINE}, m.size, m.whole, m.state, {_ZONE.format(username=username, domain=domain)},
        {_LAST.format(limit=choice.limit)}
    FROM ({choice.rows}) p {_RECORD.format(username=username, domain=domain, whole=WHOLE)}
) p ON true
"""  # noqa: S608 - constants of this module


OF_MAILBOX = _page(store.OF_MAILBOX, username="$1", domain="$2")
OF_DOMAIN = _page(store.OF_DOMAIN, domain="$1")
PAGES = {
    store.OF_MAILBOX: OF_MAILBOX,
    store.OF_DOMAIN: OF_DOMAIN,
    store.OF_MAILBOXES: _page(store.OF_MAILBOXES, username="$1"),
    store.OF_EXTENSION: _page(store.OF_EXTENSION, username="$1"),
    store.OF_DOMAINS: _page(store.OF_DOMAINS),
    store.OF_ALL: _page(store.OF_ALL),
}


@dataclass(frozen=True, slots=True)
class Lines:
    """A page: its lines, and how many there are in all; ``exact``: else there are more than ``total``."""

    lines: Sequence[Line]
    total: int
    exact: bool = True
    last: Key | None = None  # the place of the last line, if others follow
    unread: Mapping[str, RecordingState] = field(default_factory=dict)  # of recordings that the index does not have

    @property
    def not_indexed(self) -> list[str]:
        """The recordings, by the switch's names, that the index does not have."""
        return [line[11] for line in self.lines if line[13] is None]

    @property
    def complete(self) -> bool:
        """Whether each line has its id."""
        return all(line[0] is not None for line in self.lines)


async def page(readers: Readers, domains: Collection[str] | None, extension: str | None, *, limit: int, offset: int) -> Lines:
    """The messages of domains, or of one extension in them, without those flagged deleted."""
    choice, parameters = store.choose(domains, extension)
    with store.reading_table():
        rows: list[Any] = await readers.fetch(PAGES[choice], *parameters, limit, offset)
    lines, total = rows if rows[0][1] is not None else (), rows[0][-1]
    return Lines(lines, total, last=following(lines, limit, offset, total))


def following(lines: Sequence[Line], limit: int, offset: int, total: int) -> Key | None:
    """The place of a page's last line if others follow it."""
    if len(lines) < limit or offset + limit >= total:
        return None
    last = lines[-1]
    return Key(last[1], last[4], last[3][:NUMBER_KEPT], last[-2], last[11], last[7], last[6])


def line(message: Message, total: int) -> Line:
    """A message of a page of ``total`` that was read in another way."""
    row, facts = message.row, message.recording
    return (
        str(message.id), row.created_epoch, row.caller_name, row.caller_number, max(row.duration, 0), row.read_epoch,
        row.username, row.domain, row.read_flags == URGENT, row.flags == SAVED, row.forwarded_by, row.file_path,
        None if facts is None else facts.size, None if facts is None else facts.whole, message.mail, message.time_zone,
        row.uuid, total,
    )  # fmt: skip
