"""Are the mailbox files in the directory folder this installation's own?"""

from app.addressing import Domain
from app.config import Settings
from app.database.pool import close_pool, open_pool
from app.doctor.report import Finding, failed, ok, skipped
from app.errors import DatabaseFailed, MissingTable, VoicemailError
from app.mailboxes.directory import installation, ownership
from app.mailboxes.directory.ownership import Folder
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner, theirs
from app.switch.esl.event_socket import EventSocket

_NAME = "directory files"
_UNKNOWN = "?"  # no file can name it


async def check_files(dsn: str | None, switch: EventSocket, settings: Settings) -> list[Finding]:
    """Hold the folder against the database; ``None``: the embedded one, which is not looked into."""
    owner = Owner(_UNKNOWN, Domain.parse(settings.domain))
    directory = FilesDirectory(settings.directory_path, settings.directory_format, switch, owner)
    try:
        files = await directory.look()
        if not files:
            return [ok(_NAME, "there are none yet")]
        if dsn is None:
            return [skipped(_NAME, f"there are {len(files)}, and only the service looks into the embedded database: see /readyz")]
        folder, owner = await _compared(dsn, directory, owner)
    except DatabaseFailed:
        return [skipped(_NAME, "the database does not answer")]
    except VoicemailError as error:
        return [failed(_NAME, error.detail, "nobody knows whose the files are", "give the folder to the service's user")]
    if trouble := ownership.trouble(folder, settings.directory_path, owner):
        meaning = "nothing is written there" if folder.theirs else "the mailboxes of these files are not this service's"
        return [failed(_NAME, trouble.partition(". Ways out: ")[0], meaning, trouble.partition(". Ways out: ")[2])]
    return [ok(_NAME, f"{len(files)}, all of this installation")]


async def _compared(dsn: str, directory: FilesDirectory, owner: Owner) -> tuple[Folder, Owner]:
    pool = await open_pool(dsn, size=1, application_name="doctor")
    files = await directory.look()
    try:
        async with pool.acquire() as connection:
            owner = Owner(await installation.known_id(connection) or _UNKNOWN, owner.domain)
        return await ownership.compare(pool, owner, files), owner
    except MissingTable:
        # The service was never started on this database: it knows no mailbox.
        others = [extension for extension, laid in files.items() if laid.foreign_to(owner)]
        return Folder(files, {}, others, [], theirs(files.values(), owner)), owner
    finally:
        await close_pool(pool)
