"""Which files of the directory folder the database knows, which belong to others, and how that is told."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.addressing import Extension
from app.database.pool import Connection, Pool
from app.mailboxes.model import DirectoryStatus
from app.switch.directory.files import WAYS_OUT, file_name, whose
from app.switch.directory.marks import Laid, Owner, theirs

_PAGE = 5000
_EXAMPLES = 3

# By the unique index on (domain, extension), in its order.
NAMES = """
SELECT m.extension, coalesce(e.state, 'pending') AS state, e.applied_at IS NOT NULL AS written
FROM voicemail.mailbox m LEFT JOIN voicemail.directory_entry e ON e.domain = m.domain AND e.extension = m.extension
WHERE m.domain = $1 AND m.extension > $2 ORDER BY m.extension LIMIT $3
"""
REMOVALS = "SELECT extension FROM voicemail.directory_entry WHERE domain = $1 AND extension = ANY($2::text[])"


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says of a mailbox's file."""

    applied: bool  # the switch has it as it stands in the table
    written: bool  # it was applied once


@dataclass(frozen=True, slots=True)
class Folder:
    """The files in a folder, compared with the database."""

    files: Mapping[Extension, Laid]
    mailboxes: Mapping[Extension, Known]
    others: Collection[Extension]  # files of others, and files without a mark that nothing is known of
    strays: Collection[Extension]  # files of ours that the database knows neither a mailbox nor a removal for
    theirs: bool  # the whole folder is somebody else's


async def compare(pool: Pool, owner: Owner, files: Mapping[Extension, Laid]) -> Folder:
    """Compare files with the database. Read the files before this call."""
    mailboxes: dict[Extension, Known] = {}
    last, full = "", True
    while full:
        async with pool.acquire() as connection:
            rows = await connection.fetch(NAMES, owner.domain, last, _PAGE)
        for row in rows:
            mailboxes[Extension(row["extension"])] = Known(row["state"] == DirectoryStatus.APPLIED.value, row["written"])
        full = len(rows) == _PAGE
        last = rows[-1]["extension"] if rows else ""
    unknown = [extension for extension, laid in files.items() if extension not in mailboxes and laid.owner == owner]
    async with pool.acquire() as connection:
        removals = await _removals(connection, owner.domain, unknown)
    folder_theirs = theirs(files.values(), owner)

    def mendable(extension: Extension) -> bool:
        known = mailboxes.get(extension)
        return known is not None and known.written and files[extension].owner is None and not folder_theirs

    others = [extension for extension, laid in files.items() if laid.foreign_to(owner) and not mendable(extension)]
    return Folder(files, mailboxes, others, [extension for extension in unknown if extension not in removals], folder_theirs)


def trouble(folder: Folder, path: object, owner: Owner) -> str:
    """The faults in a folder and how to correct them; ``""`` if there is none."""
    kinds = (
        (folder.others, "not of this installation", "those files are not touched"),
        (folder.strays, "of mailboxes that this database does not know", "those files are not removed"),
    )
    found = []
    for extensions, what, therefore in kinds:
        if extensions:
            first = sorted(extensions)[:_EXAMPLES]
            examples = "; ".join(f"{file_name(extension)} {_why(folder.files[extension], owner)}" for extension in first)
            found.append(f"{path} holds {len(extensions)} mailbox files {what}, and {therefore} ({examples})")
    return ". ".join([*found, f"Ways out: {WAYS_OUT}"]) if found else ""


def _why(laid: Laid, owner: Owner) -> str:
    return whose(laid, owner) if laid.owner != owner else "has neither a mailbox nor a removal"


async def _removals(connection: Connection, domain: str, extensions: Collection[str]) -> frozenset[str]:
    if not extensions:
        return frozenset()
    return frozenset(row["extension"] for row in await connection.fetch(REMOVALS, domain, list(extensions)))
