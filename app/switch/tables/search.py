"""Messages by filters and in any order: SQL over the switch's own ``voicemail_msgs``.

A search takes one statement if at most ``COUNTED`` rows match: they are read by the index of the filter, counted and sorted. If
more match, the index of the order is walked until the page is full, which is soon, because so many match.

Rows without a date, which mod_voicemail never writes, are in no search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from app.database.readers import Source
from app.switch.tables.indexes import LENGTH, NUMBER, READ
from app.switch.tables.messages import _COLUMNS, _SHOWN, reading_table
from app.switch.tables.model import MessageRow

COUNTED = 10_000  # matches are counted up to here
NUMBER_KEPT = 32  # characters of a caller's number that the index holds
_LAST = "\U0010ffff"


class Sort(Enum):
    """What a search is sorted by; as the API writes it, ``-`` is descending."""

    NEWEST = "-created_at"
    OLDEST = "created_at"
    SHORTEST = "duration"
    LONGEST = "-duration"
    CALLER = "caller"  # by the number, of one number newest first
    CALLER_BACKWARDS = "-caller"


@dataclass(frozen=True, slots=True)
class Key:
    """The place of a row in every order."""

    created_epoch: int
    duration: int
    number: str
    uuid: str | None
    file_path: str | None
    domain: str
    username: str


@dataclass(frozen=True, slots=True)
class Search:
    """Which messages are wanted; None or nothing: whatever it is."""

    domains: tuple[str, ...] | None = None
    extensions: tuple[str, ...] = ()
    read: bool | None = None
    saved: bool | None = None
    urgent: bool | None = None
    since: int | None = None  # seconds since 1970
    until: int | None = None  # not included
    caller: str | None = None  # how the number begins, or, if it has a letter, also a part of the name
    min_duration: int | None = None
    max_duration: int | None = None
    sort: Sort = Sort.NEWEST
    after: Key | None = None  # of the row that the page follows


@dataclass(frozen=True, slots=True)
class Found:
    """A page: its rows, how many match (``exact``: else there are more), and the key of the last row if more rows follow."""

    rows: list[MessageRow]
    total: int
    exact: bool
    last: Key | None


class _Values:
    """The parameters of a statement."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def add(self, value: object, kind: str) -> str:
        """Where the value stands in the statement."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"


# The expressions and the orders are those of the service's own indexes (indexes.py).
_TIES = (
    "(r.uuid IS NULL)", "coalesce(r.uuid, '')", "(r.file_path IS NULL)", "coalesce(r.file_path, '')", "r.domain",
    "coalesce(r.username, '')",
)  # fmt: skip
_EPOCH = "r.created_epoch"
_BASES = {  # the columns before the ties, and whether each is descending
    Sort.NEWEST: ((_EPOCH, True),),
    Sort.LONGEST: ((LENGTH, True), (_EPOCH, True)),
    Sort.CALLER: ((NUMBER, False), (_EPOCH, True)),
}
_REVERSED = {Sort.OLDEST: Sort.NEWEST, Sort.SHORTEST: Sort.LONGEST, Sort.CALLER_BACKWARDS: Sort.CALLER}


def _columns(sort: Sort) -> tuple[tuple[tuple[str, bool], ...], bool]:
    """The columns of an order with their directions, and whether the ties are descending."""
    backwards = sort in _REVERSED
    return tuple((column, down is not backwards) for column, down in _BASES[_REVERSED.get(sort, sort)]), backwards


def _order(sort: Sort, alone: bool) -> str:
    """``alone``: one domain, whose indexes keep dates as in the plain list; the switch's own index on dates has no NULLS LAST."""
    columns, backwards = _columns(sort)
    nulls = {True: " NULLS LAST", False: " NULLS FIRST"} if alone and sort not in (Sort.LONGEST, Sort.SHORTEST) else {}
    parts = [f"{column} {'DESC' if down else 'ASC'}{nulls.get(down, '') if column == _EPOCH else ''}" for column, down in columns]
    return ", ".join(parts + [f"{tie} {'DESC' if backwards else 'ASC'}" for tie in _TIES])


def _following(search: Search, values: _Values) -> str:
    """The condition for the rows after ``search.after``; its first part is one for an index."""
    key = search.after
    if key is None:
        return "true"
    columns, backwards = _columns(search.sort)
    held = {_EPOCH: (key.created_epoch, "bigint"), LENGTH: (key.duration, "bigint"), NUMBER: (key.number, "text")}
    ties = (
        f"({str(key.uuid is None).lower()}, {values.add(key.uuid or '', 'text')}, {str(key.file_path is None).lower()},"
        f" {values.add(key.file_path or '', 'text')}, {values.add(key.domain, 'text')}, {values.add(key.username, 'text')})"
    )
    condition = f"({', '.join(_TIES)}) {'<' if backwards else '>'} {ties}"
    for column, down in reversed(columns):
        place = values.add(*held[column])
        sign = "<" if down else ">"
        condition = f"({column} {sign}= {place} AND ({column} {sign} {place} OR {condition}))"
    return condition


def _conditions(search: Search, values: _Values) -> str:
    found = [_EPOCH + " IS NOT NULL", f"r.{_SHOWN}", *_place(search, values)]
    if search.read is not None:
        found.append(f"{READ} = {int(search.read)}")
    if search.saved is not None:
        found.append("r.flags = 'save'" if search.saved else "r.flags IS DISTINCT FROM 'save'")
    if search.urgent is not None:
        found.append("r.read_flags = 'A_URGENT'" if search.urgent else "r.read_flags IS DISTINCT FROM 'A_URGENT'")
    for value, sign, column in (
        (search.since, ">=", _EPOCH), (search.until, "<", _EPOCH),
        (search.min_duration, ">=", LENGTH), (search.max_duration, "<=", LENGTH),
    ):  # fmt: skip
        if value is not None:
            found.append(f"{column} {sign} {values.add(value, 'bigint')}")
    if search.caller:
        found.append(_caller(search.caller, values))
    return " AND ".join(found)


def _place(search: Search, values: _Values) -> list[str]:
    found = []
    if search.domains is None:
        found.append("r.domain IS NOT NULL")
    elif len(search.domains) == 1:
        found.append(f"r.domain = {values.add(search.domains[0], 'text')}")
    else:
        found.append(f"r.domain = ANY({values.add(list(search.domains), 'text[]')})")
    if len(search.extensions) == 1:
        found.append(f"r.username = {values.add(search.extensions[0], 'text')}")
    elif search.extensions:
        found.append(f"r.username = ANY({values.add(list(search.extensions), 'text[]')})")
    return found


def _caller(text: str, values: _Values) -> str:
    """A text with a letter: a part of the name or the beginning of the number; else only the latter, which has an index.

    A part of a name has none, so every message of the mailbox or domain is looked at. A database of the locale C does not know
    that É is é, so each way of writing is looked for.
    """
    ways = list(dict.fromkeys((text, text.lower(), text.upper(), text.title())))
    found = []
    if any(character.isalpha() for character in text):
        names = ways[:1] if text.isascii() else ways
        found = [f"r.cid_name ILIKE {values.add(f'%{_literally(name)}%', 'text')}" for name in names]
    for way in ways:
        # A database without an encoding counts bytes, of which a character has four at most.
        kept = way[: NUMBER_KEPT if way.isascii() else NUMBER_KEPT // 4]
        number = f"{NUMBER} >= {values.add(kept, 'text')} AND {NUMBER} < {values.add(kept + _LAST, 'text')}"
        found.append(f"({number} AND starts_with(r.cid_number, {values.add(way, 'text')}))")
    return f"({' OR '.join(found)})"


def _literally(text: str) -> str:
    """``text`` for LIKE, without a meaning of its own."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def few(search: Search, limit: int, offset: int) -> tuple[str, list[object]]:
    """The statement that reads whatever matches, up to one more than ``COUNTED`` rows, and sorts it."""
    values = _Values()
    conditions, following = _conditions(search, values), _following(search, values)
    statement = f"""
WITH found AS MATERIALIZED (SELECT r.* FROM voicemail_msgs r WHERE {conditions} LIMIT {COUNTED + 1})
SELECT t.total, p.* FROM (SELECT count(*) AS total FROM found) t
LEFT JOIN LATERAL (
    SELECT {_COLUMNS}, r.uuid, r.file_path, {NUMBER}
    FROM (
        SELECT r.* FROM found r WHERE t.total <= {COUNTED} AND {following} ORDER BY {_order(search.sort, alone=False)}
        LIMIT {values.add(limit, "bigint")} OFFSET {values.add(offset, "bigint")}
    ) r
) p ON true
"""  # noqa: S608 - constants of this module; every value is a parameter
    return statement, values.values


def many(search: Search, limit: int, offset: int) -> tuple[str, list[object]]:
    """The statement that walks the index of the order."""
    values = _Values()
    conditions, following = _conditions(search, values), _following(search, values)
    alone = search.domains is not None and len(search.domains) == 1
    statement = f"""
SELECT {_COLUMNS}, r.uuid, r.file_path, {NUMBER}
FROM (
    SELECT r.* FROM voicemail_msgs r WHERE {conditions} AND {following} ORDER BY {_order(search.sort, alone)}
    LIMIT {values.add(limit, "bigint")} OFFSET {values.add(offset, "bigint")}
) r
"""  # noqa: S608
    return statement, values.values


async def find(planned: Source, walking: Source, search: Search, *, limit: int, offset: int = 0) -> Found:
    """A page of what matches.

    ``planned`` has PostgreSQL plan as it likes, by the filters; ``walking`` has it walk the index of the order (``Readers``).
    """
    if search.domains is not None and not search.domains:
        return Found([], 0, True, None)
    with reading_table():
        statement, values = few(search, limit + 1, offset)
        records: Sequence[tuple] = await planned.fetch(statement, *values)  # type: ignore[type-arg]
        total = records[0][0]
        if exact := total <= COUNTED:
            found = [record[1:] for record in records if record[1] is not None]
        else:
            statement, values = many(search, limit + 1, offset)
            found = [tuple(record) for record in await walking.fetch(statement, *values)]
    rows = [MessageRow._make(record[:-3]) for record in found[:limit]]
    last = _key(rows[-1], *found[limit - 1][-3:]) if len(found) > limit else None
    return Found(rows, min(total, COUNTED), exact, last)


def _key(row: MessageRow, uuid: str | None, file_path: str | None, number: str) -> Key:
    """The place of a row; ``uuid`` and ``file_path`` may be NULL on the switch."""
    return Key(row.created_epoch, row.duration, number, uuid, file_path, row.domain, row.username)
