"""SQL over the switch's own ``voicemail_msgs``: rows as they are at this moment, never a copy.

Where the table is not there (the switch creates it, and sometimes drops and recreates it) these raise ``Unavailable``.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.database.pool import Connection
from app.database.readers import Source
from app.errors import MissingColumn, MissingRight, MissingTable, Unavailable
from app.switch.tables.model import MessageRow, uuid_in

_COLUMNS = """coalesce(domain, '') AS domain, coalesce(username, '') AS username, coalesce(uuid, '') AS uuid,
    coalesce(file_path, '') AS file_path, coalesce(cid_name, '') AS cid_name, coalesce(cid_number, '') AS cid_number,
    coalesce(created_epoch, 0)::bigint AS created_epoch, coalesce(read_epoch, 0)::bigint AS read_epoch,
    coalesce(message_len, 0)::bigint AS message_len, coalesce(flags, '') AS flags, coalesce(read_flags, '') AS read_flags,
    coalesce(forwarded_by, '') AS forwarded_by"""
_SHOWN = "flags IS DISTINCT FROM 'delete'"
# The service's own indexes (indexes.py) are in the mailbox's order: in one mailbox no two messages of a second have one uuid.
_MAILBOX_ORDER = "r.created_epoch DESC NULLS LAST, r.uuid"
_DOMAIN_ORDER = f"{_MAILBOX_ORDER}, r.file_path"
_DOMAINS_ORDER = f"{_DOMAIN_ORDER}, r.domain"
# Every domain that the table names, by one look into the index for each.
_DOMAINS_THERE = """(
            WITH RECURSIVE there (name) AS (
                (SELECT domain::text FROM voicemail_msgs ORDER BY domain LIMIT 1)
                UNION ALL
                SELECT (SELECT domain::text FROM voicemail_msgs WHERE domain > there.name ORDER BY domain LIMIT 1)
                FROM there WHERE there.name IS NOT NULL
            )
            SELECT name FROM there WHERE name IS NOT NULL
        )"""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """SQL that chooses the messages of a list. Its parameters come first, then the limit and the offset."""

    where: str  # all of them
    rows: str  # those of one page, newest first
    limit: str  # where the limit stands


def _one(where: str, order: str, limit: str, offset: str) -> Choice:
    """By one index, in its order."""
    where = f"{where} AND {_SHOWN}"
    rows = f"SELECT r.* FROM voicemail_msgs r WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {offset}"  # noqa: S608
    return Choice(where, rows, limit)


def _several(where: str, names: str, limit: str, offset: str) -> Choice:
    """Of each domain no more than the page can show: every domain is read by the index, and nothing large is sorted."""
    rows = f"""
        SELECT r.* FROM {names} AS d (name) CROSS JOIN LATERAL (
            SELECT r.* FROM voicemail_msgs r WHERE domain = d.name AND {_SHOWN}
            ORDER BY {_DOMAIN_ORDER} LIMIT {limit}::bigint + {offset}::bigint
        ) r
        ORDER BY {_DOMAINS_ORDER} LIMIT {limit} OFFSET {offset}"""  # noqa: S608
    return Choice(f"{where} AND {_SHOWN}", rows, limit)


OF_MAILBOX = _one("username = $1 AND domain = $2", _MAILBOX_ORDER, "$3", "$4")
OF_DOMAIN = _one("domain = $1", _DOMAIN_ORDER, "$2", "$3")
# One extension in several domains, or in every domain: these rows are few, and are sorted.
OF_MAILBOXES = _one("username = $1 AND domain = ANY($2::text[])", _DOMAINS_ORDER, "$3", "$4")
OF_EXTENSION = _one("username = $1 AND domain IS NOT NULL", _DOMAINS_ORDER, "$2", "$3")
OF_DOMAINS = _several("domain = ANY($1::text[])", "unnest($1::text[])", "$2", "$3")
OF_ALL = _several("domain IS NOT NULL", _DOMAINS_THERE, "$1", "$2")
CHOICES = (OF_MAILBOX, OF_DOMAIN, OF_MAILBOXES, OF_EXTENSION, OF_DOMAINS, OF_ALL)


def choose(domains: Collection[str] | None, extension: str | None) -> tuple[Choice, tuple[object, ...]]:
    """The choice for some domains (None: every one) and perhaps one extension; and its parameters before limit and offset."""
    if domains is None:
        return (OF_ALL, ()) if extension is None else (OF_EXTENSION, (extension,))
    if len(domains) == 1:
        (domain,) = domains
        return (OF_DOMAIN, (domain,)) if extension is None else (OF_MAILBOX, (extension, domain))
    names = sorted(domains)
    return (OF_DOMAINS, (names,)) if extension is None else (OF_MAILBOXES, (extension, names))


def _page(choice: Choice) -> str:
    # The total stands in each row, and in a row of its own if the page is empty. Both are of one moment.
    return f"""
SELECT t.total, r.* FROM (SELECT count(*) AS total FROM voicemail_msgs WHERE {choice.where}) t
LEFT JOIN LATERAL (SELECT {_COLUMNS} FROM ({choice.rows}) r) r ON true
"""  # noqa: S608 - constants of this module


PAGES = {choice: _page(choice) for choice in CHOICES}

# By the index on uuid; rows whose uuid is no UUID, and perhaps no text, by the index on username.
SAME_UUID = f"SELECT {_COLUMNS} FROM voicemail_msgs WHERE uuid = ANY($1::text[])"  # noqa: S608
SAME_UUID_WITHIN = f"""
{SAME_UUID} AND ($2::text[] IS NULL OR domain = ANY($2)) AND ($3::text IS NULL OR username = $3)
"""
WITHOUT_UUID = f"""
SELECT {_COLUMNS} FROM voicemail_msgs
WHERE coalesce(uuid, '') !~ '^[0-9A-Fa-f-]{{36}}$' AND (username = $1 OR ($1 = '' AND username IS NULL))
"""  # noqa: S608

# By the service's own index on file_path. Never from what this service has recorded: a row it has not met yet counts too.
NAMES_FILE = "SELECT EXISTS (SELECT FROM voicemail_msgs WHERE file_path = $1)"
SAME = """(uuid = $3 OR ($3 = '' AND uuid IS NULL)) AND (domain = $1 OR ($1 = '' AND domain IS NULL))
    AND (username = $2 OR ($2 = '' AND username IS NULL)) AND (file_path = $4 OR ($4 = '' AND file_path IS NULL))"""
_HEARD = "(coalesce(read_epoch, 0) > 0 OR flags IS NOT DISTINCT FROM 'save')"
# PostgreSQL checks a row again if a phone changed it meanwhile, so what was heard or saved a moment ago is not deleted.
# The counts are of the statement's beginning, and so include the rows that it deletes.
REMOVE_ROW = f"""
WITH removed AS (
    DELETE FROM voicemail_msgs
    WHERE {SAME} AND NOT ($5 AND ({_HEARD} OR EXISTS (SELECT FROM voicemail_msgs WHERE {SAME} AND {_HEARD})))
    RETURNING 1
)
SELECT (SELECT count(*) FROM removed) AS removed,
    (SELECT count(*) FROM voicemail_msgs WHERE {SAME}) AS listed,
    EXISTS (SELECT FROM voicemail_msgs WHERE {SAME} AND {_HEARD}) AS heard,
    EXISTS (SELECT FROM voicemail_msgs WHERE file_path = $4 AND ({SAME}) IS NOT TRUE) AS shares_file
"""  # noqa: S608 - constants of this module

# By the index on created_epoch. Ties stay together, so a slice ends where the next begins.
SLICE = f"""
SELECT {_COLUMNS} FROM voicemail_msgs r WHERE r.created_epoch > $1::bigint
ORDER BY r.created_epoch FETCH FIRST ($2::bigint) ROWS WITH TIES
"""  # noqa: S608
UNDATED = f"SELECT {_COLUMNS} FROM voicemail_msgs r WHERE r.created_epoch IS NULL"  # noqa: S608
# By the service's own index on file_path (indexes.py).
OF_FILES = f"SELECT {_COLUMNS} FROM voicemail_msgs WHERE file_path = ANY($1::text[])"  # noqa: S608
CLOCK = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint"

BEFORE_ALL = -(2**62)  # an epoch before every row's


@dataclass(frozen=True, slots=True)
class RowRemoval:
    """The result of deleting one row."""

    gone: bool  # False: it was not there, or it stays
    heard: bool  # somebody listened to it or saved it, before the statement began
    shares_file: bool  # another row names the same file


@contextmanager
def reading_table() -> Iterator[None]:
    """Say what a missing or closed voicemail_msgs means. Raises ``Unavailable``."""
    try:
        yield
    except (MissingTable, MissingColumn) as error:
        raise Unavailable("the switch has not created voicemail_msgs yet, or is creating it anew") from error
    except MissingRight as error:
        raise Unavailable("the service's database role may not read or change voicemail_msgs") from error


def _rows(records: Iterable[Any]) -> list[MessageRow]:
    """Rows from records of ``_COLUMNS``."""
    return [MessageRow._make(record) for record in records]


async def page(
    source: Source, domains: Collection[str] | None, extension: str | None, *, limit: int, offset: int
) -> tuple[list[MessageRow], int]:
    """Rows of domains, or of one extension in them, newest first and without those flagged deleted; and how many there are."""
    choice, parameters = choose(domains, extension)
    with reading_table():
        records = await source.fetch(PAGES[choice], *parameters, limit, offset)
    return [MessageRow._make(record[1:]) for record in records if record[1] is not None], records[0][0]


async def newest(source: Source, domains: Collection[str] | None, extension: str) -> MessageRow | None:
    """The newest row of a mailbox that is not flagged deleted."""
    rows, _ = await page(source, domains, extension, limit=1, offset=0)
    return rows[0] if rows else None


async def with_uuids_within(
    source: Source, uuids: Sequence[str], domains: Collection[str] | None, username: str | None
) -> list[MessageRow]:
    """As ``with_uuids``, but only of these domains (None: every one) and, unless that is None, of this username."""
    with reading_table():
        names = None if domains is None else list(domains)
        return _rows(await source.fetch(SAME_UUID_WITHIN, uuids, names, username))


async def with_uuids(source: Source, uuids: Sequence[str]) -> list[MessageRow]:
    """Every row with one of these uuids, in all mailboxes, those flagged deleted too."""
    with reading_table():
        return _rows(await source.fetch(SAME_UUID, uuids))


async def with_key(source: Source, key: bytes, *, uuid: str, username: str) -> MessageRow | None:
    """The row with this key, flagged deleted or not; ``uuid`` and ``username`` are what it is looked up by."""
    with reading_table():
        records = await (source.fetch(SAME_UUID, [uuid]) if uuid_in(uuid) else source.fetch(WITHOUT_UUID, username))
    return next((row for row in _rows(records) if row.key == key), None)


async def names_file(source: Source, file_path: str) -> bool:
    """Whether any row names this recording."""
    with reading_table():
        return bool(await source.fetchval(NAMES_FILE, file_path))


async def remove(connection: Connection, row: MessageRow, *, only_unheard: bool) -> RowRemoval:
    """Delete exactly this row, and say in the same statement whether another row names its file.

    The very same row twice is one message. ``only_unheard``: not if somebody listened to it or saved it, in whichever of the two.
    """
    with reading_table():
        removed, listed, heard, shares_file = await connection.fetchrow(REMOVE_ROW, *row[:4], only_unheard)
    return RowRemoval(gone=removed > 0 and removed == listed, heard=heard, shares_file=shares_file)


async def with_files(source: Source, file_paths: Sequence[str]) -> list[MessageRow]:
    """Every row that names one of these recordings, whatever its date."""
    with reading_table():
        return _rows(await source.fetch(OF_FILES, file_paths))


async def after(source: Source, created_epoch: int, *, limit: int = 1000) -> list[MessageRow]:
    """The next rows created after ``created_epoch``, oldest first: ``limit`` of them and all of the last one's second."""
    with reading_table():
        return _rows(await source.fetch(SLICE, created_epoch, limit))


async def undated(source: Source) -> list[MessageRow]:
    """The rows whose created_epoch is NULL."""
    with reading_table():
        return _rows(await source.fetch(UNDATED))


async def clock(source: Source) -> int:
    """Seconds since 1970 by the switch's database."""
    return int(await source.fetchval(CLOCK))
