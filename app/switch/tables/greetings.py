"""SQL over ``voicemail_prefs``: which file the switch plays as a mailbox's greeting, and which as its recorded name.

``vm_fsdb_pref_greeting_set`` would do the same to the row, but it moves the file out of the mailbox's folder, into the switch's
own storage folder, and waits behind a reload. So the row is written here, by one statement.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from app.addressing import MailboxAddress
from app.database.pool import Pool
from app.errors import MissingTable, Unavailable
from app.switch.tables.prefs import using_prefs

# The table has no key. The switch takes the last row it reads, so of several rows every one is written.
PATHS = """
SELECT coalesce(greeting_path, '') AS greeting_path, coalesce(name_path, '') AS name_path FROM voicemail_prefs
WHERE username = $1 AND domain = $2
"""
# By the index on username. A row without a password opens no mailbox, as one that the phone's menu makes.
_SET = """
WITH changed AS (UPDATE voicemail_prefs SET {column} = $3 WHERE username = $1 AND domain = $2 RETURNING 1)
INSERT INTO voicemail_prefs (username, domain, {column})
SELECT $1::text, $2::text, $3::text WHERE NOT EXISTS (SELECT FROM changed)
"""
_CLEAR = """
UPDATE voicemail_prefs SET {column} = NULL
WHERE username = $1 AND domain = $2 AND {column} <> '' AND ($3::text IS NULL OR {column} = $3)
"""


class Preference(StrEnum):
    """The columns that name a file."""

    GREETING = "greeting_path"
    NAME = "name_path"


SET = {column: _SET.format(column=column) for column in Preference}
CLEAR = {column: _CLEAR.format(column=column) for column in Preference}


@dataclass(frozen=True, slots=True)
class Played:
    """The paths that the switch has for a mailbox, as it writes them; "": none."""

    greeting: str = ""
    name: str = ""

    def path(self, column: Preference) -> str:
        """The one of a column."""
        return self.name if column is Preference.NAME else self.greeting


class GreetingTable:
    """The two columns. All of this raises ``Unavailable``."""

    def __init__(self, pool: Pool) -> None:
        """``pool``: of the database that the switch uses."""
        self._pool = pool

    async def played(self, address: MailboxAddress) -> Played:
        """What the switch plays to callers of a mailbox."""
        with _using():
            rows = await self._pool.fetch(PATHS, address.extension, address.domain)
        return Played(*rows[-1]) if rows else Played()

    async def set(self, address: MailboxAddress, column: Preference, path: str) -> None:
        """Have the switch play this file, named as the switch names it."""
        with _using():
            await self._pool.execute(SET[column], address.extension, address.domain, path)

    async def clear(self, address: MailboxAddress, column: Preference, *, only: str | None = None) -> None:
        """Have the switch play its default; ``only`` if this is what it plays, because a phone may have chosen another one."""
        with _using():
            await self._pool.execute(CLEAR[column], address.extension, address.domain, only)


@contextmanager
def _using() -> Iterator[None]:
    try:
        with using_prefs():
            yield
    except MissingTable as error:
        raise Unavailable("the switch has not created voicemail_prefs yet") from error
