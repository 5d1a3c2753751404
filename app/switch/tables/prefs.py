"""The switch's own tables beside the messages: whether they are there, and the PINs that people set by phone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.errors import DatabaseRefused, DatabaseUnavailable, MissingColumn, MissingRight, MissingTable, Unavailable

# What this service reads and writes of the tables that mod_voicemail creates.
COLUMNS: Mapping[str, frozenset[str]] = {
    "voicemail_msgs": frozenset({
        "created_epoch", "read_epoch", "username", "domain", "uuid", "cid_name", "cid_number", "in_folder",
        "file_path", "message_len", "flags",
    }),
    "voicemail_prefs": frozenset({"username", "domain", "password"}),
}  # fmt: skip

# Those of the first table of that name on the search path, as an unqualified name finds it.
FIND_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""

# What the service reads of each. A SELECT, because only that proves the right to read, by table or by column.
READ: Mapping[str, str] = {
    "voicemail_msgs": """
SELECT created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path, message_len, flags
FROM voicemail_msgs LIMIT 1
""",
    "voicemail_prefs": "SELECT username, domain, password FROM voicemail_prefs LIMIT 1",
}

# By the index on username. There is no key, so there may be several rows.
PINS_OF_MAILBOX = """
SELECT DISTINCT password FROM voicemail_prefs WHERE username = $1 AND domain = $2 AND password <> '' ORDER BY password
"""
PINS_OF_DOMAINS = """
SELECT DISTINCT domain, username, password FROM voicemail_prefs
WHERE domain = ANY($1::text[]) AND username IS NOT NULL AND password <> '' ORDER BY domain, username, password
"""
PINS_OF_MAILBOXES = """
SELECT DISTINCT username, password FROM voicemail_prefs
WHERE domain = $1 AND username = ANY($2::text[]) AND password <> '' ORDER BY username, password
"""
# Only over what was read before: a PIN set by phone in between is not lost.
SET_PINS = """
UPDATE voicemail_prefs p SET password = w.pin
FROM unnest($2::text[], $3::text[]) w (username, pin)
WHERE p.domain = $1 AND p.username = w.username AND (
    p.password IS NULL OR p.password = ''
    OR (p.username, p.password) IN (SELECT o.username, o.pin FROM unnest($4::text[], $5::text[]) o (username, pin)))
RETURNING p.username
"""
# As SET_PINS for one mailbox. Without a row the directory's PIN would count until the switch has read the directory again.
LOCK = """
UPDATE voicemail_prefs SET password = $3
WHERE username = $1 AND domain = $2 AND (coalesce(password, '') = '' OR password = $3 OR password = ANY ($4::text[]))
RETURNING username
"""
ADD_LOCK = """
INSERT INTO voicemail_prefs (username, domain, name_path, greeting_path, password)
SELECT $1::text, $2::text, '', '', $3::text
WHERE NOT EXISTS (SELECT FROM voicemail_prefs WHERE username = $1 AND domain = $2)
RETURNING username
"""


class VoicemailTables:
    """mod_voicemail's tables. All of this raises ``DatabaseUnavailable`` if the switch's database is away."""

    def __init__(self, pool: Pool) -> None:
        """``pool``: of the database that the switch uses."""
        self._pool = pool

    async def missing(self) -> dict[str, frozenset[str]]:
        """Which columns are missing, by table; a table that is not there misses all of them."""
        lacking: dict[str, frozenset[str]] = {}
        with using_prefs():
            for table, columns in COLUMNS.items():
                found = {row["attname"] for row in await self._pool.fetch(FIND_COLUMNS, table)}
                if columns - found:
                    lacking[table] = columns - found
        return lacking

    async def check(self, table: str) -> None:
        """Read one row of ``table``, one of ``COLUMNS``, as the service does. Raises ``Unavailable`` and says why."""
        try:
            await self._pool.fetchrow(READ[table])
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable("the switch's database does not answer") from error
        except MissingRight as error:
            raise Unavailable(f"the service's database role may not read {table}: GRANT SELECT ON {table} to it") from error
        except (MissingTable, MissingColumn) as error:
            lacking = (await self.missing()).get(table, frozenset()) or COLUMNS[table]
            what = "is not there" if lacking == COLUMNS[table] else f"lacks {', '.join(sorted(lacking))}"
            raise Unavailable(f"{table} {what}: the switch creates it when mod_voicemail loads its profile") from error
        except DatabaseRefused as error:
            # Not the server's own message: it could quote values.
            raise Unavailable(f"{table} cannot be read: {error.detail}") from error

    async def pins(self, address: MailboxAddress) -> tuple[str, ...]:
        """The PINs set for a mailbox by phone or by this service: usually none or one, more if rows disagree."""
        with using_prefs():
            try:
                rows = await self._pool.fetch(PINS_OF_MAILBOX, address.extension, address.domain)
            except MissingTable:
                return ()  # the switch creates it when its voicemail profile first loads
            return tuple(row["password"] for row in rows)

    async def all_pins(self, domains: Sequence[str]) -> dict[tuple[str, str], tuple[str, ...]]:
        """The PINs of every mailbox of these domains that has any, by domain and username."""
        with using_prefs():
            try:
                rows = await self._pool.fetch(PINS_OF_DOMAINS, domains)
            except MissingTable:
                return {}
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for row in rows:
            key = row["domain"], row["username"]
            found[key] = (*found.get(key, ()), row["password"])
        return found

    async def pins_of(self, domain: str, usernames: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The PINs of these mailboxes, by username; of one that has none there is no entry."""
        with using_prefs():
            try:
                rows = await self._pool.fetch(PINS_OF_MAILBOXES, domain, usernames)
            except MissingTable:
                return {}
        return _by_username(rows)

    async def set_pins(self, domain: str, pins: Mapping[str, str], *, instead_of: Mapping[str, Sequence[str]]) -> frozenset[str]:
        """Write PINs, by username, over ``instead_of``, the PINs read before, or over none; the usernames that have rows."""
        old = [(username, pin) for username in pins for pin in instead_of.get(username, ())]
        values = (list(pins), list(pins.values()), [username for username, _ in old], [pin for _, pin in old])
        with using_prefs():
            try:
                rows = await self._pool.fetch(SET_PINS, domain, *values)
            except MissingTable:
                return frozenset()  # as above: then there is no second PIN
        return frozenset(row["username"] for row in rows)

    async def lock(self, address: MailboxAddress, pin: str, *, instead_of: Sequence[str]) -> bool:
        """Write this PIN for one mailbox over ``instead_of``, the PINs read before, or as a new row; False: another is there."""
        values = address.extension, address.domain, pin
        with using_prefs():
            try:
                if await self._pool.fetchval(LOCK, *values, list(instead_of)) is not None:
                    return True
                return await self._pool.fetchval(ADD_LOCK, *values) is not None
            except MissingTable:
                return True  # as above


def _by_username(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        found[row["username"]] = (*found.get(row["username"], ()), row["password"])
    return found


@contextmanager
def using_prefs() -> Iterator[None]:
    """Say what it means if voicemail_prefs cannot be used. Raises ``Unavailable``; a missing table stays ``MissingTable``."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable("the switch's database does not answer") from error
    except (MissingColumn, MissingRight) as error:
        # Not the server's own message: it could quote the statement's values.
        raise Unavailable("the service's database role may not use voicemail_prefs, or the table is an old one") from error
