"""``voicemail doctor``: runs every check in order and prints each result at once."""

from collections.abc import Callable
from pathlib import Path

from app.config import Settings, load_settings
from app.doctor.database import check_database, check_embedded, check_switch_tables
from app.doctor.directory import check_directory, check_mailboxes, domains_served
from app.doctor.links import check_links
from app.doctor.mail import check_mail
from app.doctor.orphans import check_orphans
from app.doctor.ownership import check_files
from app.doctor.recordings import check_recordings
from app.doctor.report import Finding, Report, failed, ok, skipped, text, warning
from app.doctor.switch import check_profile, check_switch
from app.errors import SettingsError, SwitchUnavailable
from app.logs import configure_logging
from app.switch.directory.domains import DomainFolders
from app.switch.directory.marks import PROBE
from app.switch.esl.event_socket import EventSocket

Tell = Callable[[list[Finding]], bool]


async def doctor(*, as_json: bool = False, mail_to: str | None = None, env_file: Path = Path(".env")) -> int:
    """Check everything; prints each finding, or one JSON document. Returns 0 only if no check failed."""
    configure_logging("error")
    report = Report()

    def tell(findings: list[Finding]) -> bool:
        well = report.add(findings)
        if not as_json:
            for finding in findings:
                print(text(finding), flush=True)
        return well

    try:
        settings = load_settings(env_file=env_file)
    except SettingsError as error:
        tell([failed(item.field, item.message, "the service does not start", "see docs/settings.md") for item in error.errors])
    else:
        tell(_settings(settings))
        await _check(settings, tell, mail_to)
    if as_json:
        print(report.json())
    else:
        print(f"\n{report.summary()}", flush=True)
    return 0 if report.well else 1


def _settings(settings: Settings) -> list[Finding]:
    found = [
        ok("settings", f"domain {settings.domain}, time zone {settings.time_zone}, directory as {settings.directory_format}")
    ]
    if settings.secret_key is None:
        found.append(
            warning(
                "VOICEMAIL_SECRET_KEY",
                "not set: a key is generated once and kept in VOICEMAIL_DATA_DIR",
                "without that file the PINs in the database cannot be read, and a second copy of the service has another key",
                "set it to 32 random bytes in base64, and back it up",
            )
        )
    if settings.esl_password.get_secret_value() == "ClueCon":
        found.append(
            warning(
                "VOICEMAIL_ESL_PASSWORD",
                "FreeSWITCH's default",
                "anybody who reaches the Event Socket controls the switch",
                "set another one in event_socket.conf.xml and here",
            )
        )
    return found


def _no_switch_database() -> Finding:
    return failed(
        "voicemail_msgs",
        "neither VOICEMAIL_SWITCH_DATABASE_URL nor VOICEMAIL_DATABASE_URL is set",
        "the service would look for the switch's messages in its own embedded database, where none ever are",
        "set VOICEMAIL_DATABASE_URL to the database of the switch",
    )


async def _check(settings: Settings, tell: Tell, mail_to: str | None) -> None:
    own = settings.database_url.get_secret_value() if settings.database_url else None
    switch_dsn = settings.switch_database_url.get_secret_value() if settings.switch_database_url else own
    own_well = tell(await check_database(own)) if own else tell(check_embedded())
    tables_well = bool(switch_dsn) and tell(await check_switch_tables(switch_dsn or ""))
    if not switch_dsn:
        tell([_no_switch_database()])
    switch = EventSocket(settings.esl_host, settings.esl_port, settings.esl_password.get_secret_value())
    switch.start()
    try:
        try:
            if tell(await check_switch(switch, settings)):
                tell(await check_profile(switch, settings, switch_dsn))
            else:
                tell([skipped(f"profile {settings.profile}", "the switch is not as it must be")])
        except SwitchUnavailable as error:
            tell([failed("event socket", error.detail, "the switch went away meanwhile", "look at the switch's log")])
        tell(await check_recordings(settings, switch_dsn if tables_well else None))
        folders = DomainFolders.of_settings(settings, switch, PROBE, makes=False)
        domains = await domains_served(own if own_well else None, folders)
        tell(await check_links(settings))
        tell(await check_orphans(settings, own if own_well else None, switch_dsn if tables_well else None))
        for domain in domains:
            tell(await check_directory(folders.of(domain), switch, settings, domain))
            tell(await check_files(own, switch, settings, domain))
        known = own is not None and own_well
        tell(await check_mailboxes(own or "", folders.only) if known else [skipped("mailboxes", "the database is not known")])
    finally:
        await switch.close()
    tell(await check_mail(settings, mail_to))
