"""Checks that the mailbox files in the directory folder belong to this installation."""

from app.addressing import Domain
from app.config import Settings
from app.database.pool import close_pool, open_pool
from app.doctor.directory import named
from app.doctor.report import Finding, failed, ok, skipped
from app.errors import DatabaseFailed, MissingTable, VoicemailError
from app.mailboxes.directory import installation, ownership
from app.mailboxes.directory.ownership import Folder
from app.switch.directory.domains import DomainFolders
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner, theirs
from app.switch.esl.event_socket import EventSocket

_UNKNOWN = "?"  # no file can name it


async def check_files(dsn: str | None, switch: EventSocket, settings: Settings, domain: Domain) -> list[Finding]:
    """Compare a domain's folder with the database. ``None`` means the embedded database, which is not opened here."""
    name = named("directory files", domain, settings)
    folders = DomainFolders.of_settings(settings, switch, _UNKNOWN, makes=False)
    owner, directory = folders.owner(domain), folders.of(domain)
    try:
        files = await directory.look()
        if not files:
            return [ok(name, "there are none yet")]
        if dsn is None:
            return [skipped(name, f"there are {len(files)}, and only the service looks into the embedded database: see /readyz")]
        folder, owner = await _compared(dsn, directory, owner)
    except DatabaseFailed:
        return [skipped(name, "the database does not answer")]
    except VoicemailError as error:
        return [failed(name, error.detail, "nobody knows whose the files are", "give the folder to the service's user")]
    if trouble := ownership.trouble(folder, directory.folder, owner):
        meaning = "nothing is written there" if folder.theirs else "the mailboxes of these files are not this service's"
        return [failed(name, trouble.partition(". Ways out: ")[0], meaning, trouble.partition(". Ways out: ")[2])]
    return [ok(name, f"{len(files)}, all of this installation")]


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
