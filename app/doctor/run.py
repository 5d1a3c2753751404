"""``voicemail doctor``: every part in order, each named before it is looked at and printed as soon as it is found."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from app.config import Settings, load_settings
from app.doctor.audit import check_audit
from app.doctor.database import check_database, check_embedded, check_switch_tables, hosted_domains, where
from app.doctor.directory import check_directory, check_mailboxes
from app.doctor.links import check_links
from app.doctor.mail import check_mail
from app.doctor.orphans import check_orphans
from app.doctor.ownership import check_files
from app.doctor.pbx import check_pbx
from app.doctor.pins import check_pins
from app.doctor.recordings import check_recordings
from app.doctor.report import Finding, Report, failed, ok, skipped, text, warning
from app.doctor.rights import become_service_user, check_unit_paths
from app.doctor.switch import check_profile, check_switch
from app.errors import SettingsError, SwitchUnavailable
from app.logs import configure_logging
from app.settings_files import IMPLICIT
from app.switch.directory.domains import DomainFolders
from app.switch.directory.marks import PROBE
from app.switch.esl.event_socket import EventSocket

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Teller:
    """Collects what is found and, for a person, prints it at once."""

    def __init__(self, *, silent: bool) -> None:
        self.report = Report()
        self._silent = silent

    def begin(self, part: str) -> None:
        """Name what is looked at next, because some of it takes its time."""
        if not self._silent:
            print(f"checking {part} …", flush=True)

    def __call__(self, findings: Iterable[Finding]) -> bool:
        """Take findings; false if one of them failed."""
        found = list(findings)
        if not self._silent:
            for finding in found:
                print(text(finding), flush=True)
        return self.report.add(found)


async def doctor(*, as_json: bool = False, mail_to: str | None = None, env_file: Path = IMPLICIT) -> int:
    """Check everything; prints each finding, or one JSON document. Returns 0 only if no check failed."""
    configure_logging("error")
    tell = _Teller(silent=as_json)
    env_file = env_file if env_file == IMPLICIT else env_file.absolute()
    tell.begin(f"settings ({env_file} and the environment)" if env_file.exists() else "settings (the environment)")
    if tell(become_service_user(env_file)):
        try:
            settings = load_settings(env_file=env_file)
        except SettingsError as error:
            tell(failed(item.field, item.message, "the service does not start", "see docs/settings.md") for item in error.errors)
        else:
            tell(_settings(settings))
            tell(check_unit_paths(settings))
            await _check(settings, tell, mail_to)
    report = tell.report
    print(report.json() if as_json else f"\n{report.summary()}", flush=True)
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
    return [*found, *_public_url(settings)]


def _public_url(settings: Settings) -> list[Finding]:
    """Whether tokens and recordings cross a network in clear."""
    name, here = "VOICEMAIL_PUBLIC_URL", settings.http_host in _LOOPBACK
    url = urlsplit(settings.public_url)
    meaning = "tokens, PINs and recordings can be read by everyone between the client and this host"
    remedy = "let a reverse proxy on this host end TLS, and set VOICEMAIL_PUBLIC_URL to its https:// address"
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        return [warning(name, f"{settings.public_url} has no https", meaning, remedy)]
    if not url.scheme and not here:
        return [warning(name, f"not set, and the API listens on {settings.http_host} without TLS", meaning, remedy)]
    return [ok(name, settings.public_url or "not set: the API is for this host alone")]


def _no_switch_database() -> Finding:
    return failed(
        "voicemail_msgs",
        "VOICEMAIL_DATABASE_URL is embedded, and VOICEMAIL_SWITCH_DATABASE_URL is not set",
        "the service would look for the switch's messages in its own embedded database, where no switch writes any",
        "set VOICEMAIL_DATABASE_URL to the database of the switch",
    )


async def _check(settings: Settings, tell: _Teller, mail_to: str | None) -> None:
    own = None if settings.embedded else settings.database_url.get_secret_value()
    switch_dsn = settings.switch_database_url.get_secret_value() if settings.switch_database_url else own
    tell.begin(f"the database {where(own or '')}" if own else "the database")
    own_well = tell(await check_database(own)) if own else tell(check_embedded())
    if own_well and own:
        tell(await check_audit(own))
    tables_well = bool(switch_dsn) and tell(await check_switch_tables(switch_dsn or ""))
    if not switch_dsn:
        tell([_no_switch_database()])
    tell(await check_pbx(switch_dsn if tables_well else None))
    switch = EventSocket(settings.esl_host, settings.esl_port, settings.esl_password.get_secret_value())
    switch.start()
    tell.begin(f"the switch {settings.esl_host}:{settings.esl_port}")
    try:
        try:
            if tell(await check_switch(switch, settings)):
                tell(await check_profile(switch, settings, switch_dsn))
            else:
                tell([skipped(f"profile {settings.profile}", "the switch is not as it must be")])
        except SwitchUnavailable as error:
            tell([failed("event socket", error.detail, "the switch went away meanwhile", "look at the switch's log")])
        tell.begin(f"recordings in {settings.recordings_path}")
        hosted = await hosted_domains(own if own_well else None, settings.domain)
        tell(await check_recordings(settings, switch_dsn if tables_well else None, hosted))
        folders = DomainFolders.of_settings(settings, switch, PROBE, makes=False)
        domains = [domain for domain in hosted if folders.serves(domain)]
        tell(await check_links(settings))
        tell(await check_orphans(settings, own if own_well else None, switch_dsn if tables_well else None))
        for domain in domains:
            tell.begin(f"the directory of {domain} in {folders.of(domain).folder}")
            tell(await check_directory(folders.of(domain), switch, settings, domain))
            tell(await check_files(own, switch, settings, domain))
        known = own is not None and own_well
        tell(await check_mailboxes(own or "", folders.only) if known else [skipped("mailboxes", "the database is not known")])
        if known:
            tell(await check_pins(own or "", settings))
    finally:
        await switch.close()
    tell.begin(f"the mail server {settings.smtp_host}:{settings.smtp_port}")
    tell(await check_mail(settings, mail_to))
