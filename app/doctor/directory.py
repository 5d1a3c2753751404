"""Checks that the switch reads the service's mailbox files: a probe is written, reloaded, read back and removed."""

import secrets

from app.addressing import Domain, Extension, MailboxAddress
from app.config import Settings
from app.database.pool import connect
from app.doctor.report import Finding, State, failed, ok, skipped, warning
from app.errors import DatabaseFailed, MissingTable, SwitchRefused, SwitchUnavailable, VoicemailError
from app.mailboxes.directory import batch_store
from app.switch import commands
from app.switch.directory.files import FilesDirectory
from app.switch.directory.model import DirectoryRefused, DirectoryUser
from app.switch.esl.event_socket import EventSocket

_APPLIED = "SELECT count(*) FROM voicemail.directory_entry WHERE ($1::text IS NULL OR domain = $1) AND state = 'applied'"


def named(name: str, domain: str, settings: Settings) -> str:
    """The name of a check of one domain; that of the default domain stands alone."""
    return name if domain == settings.domain else f"{name} of {domain}"


async def check_directory(directory: FilesDirectory, switch: EventSocket, settings: Settings, domain: Domain) -> list[Finding]:
    """A domain's directory folder, the probe, and what parameters a user inherits from the switch's own configuration."""
    name = named("directory probe", domain, settings)
    folder = await _folder(named("directory folder", domain, settings), directory)
    if folder.state is State.FAILED:
        return [folder, skipped(name, "there is no folder to write it to")]
    if settings.directory_format == "fragments":
        why = "fragments are included user by user: the mailboxes' own states below are the proof"
        return [folder, skipped(name, why)]
    if not switch.connected:
        return [folder, skipped(name, "the switch is away")]
    address = MailboxAddress(Extension.parse(f"doctor-probe-{secrets.token_hex(4)}"), domain)
    probe = DirectoryUser(address=address, pin=secrets.token_hex(8), mail_to="", enabled=False)
    found = [folder]
    try:
        await directory.put(probe)
        found.append(ok(name, f"{directory.folder} is included by the switch: a user was written and read back"))
        found.append(await _own_mail(named("mod_voicemail's own mail", domain, settings), switch, address))
    except (SwitchRefused, SwitchUnavailable, OSError) as error:
        found.append(
            failed(
                name,
                str(error),
                "mailboxes of the API do not reach the switch",
                f'include the folder inside <users> of <domain name="{domain}">: <X-PRE-PROCESS cmd="include" '
                f'data="{directory.folder}/*.xml"/> on a line of its own, with the path as the switch sees it',
            )
        )
    finally:
        found += await _remove(f"{name} removed", directory, address)
    return found


async def _remove(name: str, directory: FilesDirectory, address: MailboxAddress) -> list[Finding]:
    try:
        await directory.remove(address)
    except (VoicemailError, OSError) as error:
        return [failed(name, str(error), f"the user {address} stays in the switch", "run reloadxml")]
    return [ok(name, "the user is gone again")]


async def _folder(name: str, directory: FilesDirectory) -> Finding:
    folder = directory.folder
    try:
        await directory.ready()
    except DirectoryRefused as error:
        remedy = "give it to the service's user, make space on its disk, or mount it writable"
        if not folder.is_dir():
            remedy = "make it, or set VOICEMAIL_DIRECTORY_PATH; a domain's own folder is made by the service when it runs"
        return failed(name, error.detail, "no mailbox can be written", remedy)
    if folder.stat().st_mode & 0o007:
        return warning(
            name,
            f"{folder} is open to every user of this host",
            "its files hold PINs",
            f"chmod 2750 {folder}, group of the switch",
        )
    return ok(name, str(folder))


async def _own_mail(name: str, switch: EventSocket, address: MailboxAddress) -> Finding:
    """A user inherits the parameters of its group and domain, and the probe is such a user."""
    bad: list[str] = []
    for parameter in ("vm-email-all-messages", "vm-notify-email-all-messages"):
        value = (await switch.command(commands.user_data(address, "param", parameter))).value
        if value.lower() in {"true", "yes", "on", "enabled", "active", "allow", "t", "1"}:
            bad.append(f"{parameter}={value}")
    if bad:
        return failed(
            name,
            f"users inherit {', '.join(bad)}",
            "the switch mails messages itself as well, and every mail comes twice",
            "remove these parameters from the domain and its groups",
        )
    return ok(name, "off")


async def check_mailboxes(dsn: str, only: Domain | None) -> list[Finding]:
    """How many mailboxes the switch has applied, as the service last saw it."""
    name = "mailboxes"
    try:
        connection = await connect(dsn, application_name="doctor")
        try:
            applied = await connection.fetchval(_APPLIED, only)
            backlog = await batch_store.backlog(connection, only)
        finally:
            await connection.close()
    except MissingTable:
        return [skipped(name, "the service has not used this database yet")]
    except DatabaseFailed as error:
        why = type(error).__name__
        return [failed(name, f"cannot be read: {why}", "mailboxes are not read either", "mend what the checks above say")]
    counts = f"{applied} applied, {backlog}"
    if backlog.failed:
        remedy = "mend what the detail says; the service tries again by itself"
        why = f"the switch has these otherwise than the API, or not at all. {backlog.address}: {backlog.detail}"
        return [failed(name, counts, why, remedy)]
    if backlog.pending or backlog.removals:
        return [warning(name, counts, "the switch does not have these yet", "start the service and the switch")]
    return [ok(name, f"{applied} applied" if applied else "none yet")]
