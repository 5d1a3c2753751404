"""Checks the Event Socket, the switch's modules, and its voicemail profile."""

import re
from pathlib import PurePosixPath
from xml.etree import ElementTree

from app.config import Settings
from app.doctor.database import where
from app.doctor.report import Finding, failed, ok, skipped, warning
from app.switch import commands
from app.switch.esl.event_socket import EventSocket

NEEDED = ("mod_voicemail", "mod_pgsql", "mod_sndfile", "mod_dptools", "mod_dialplan_xml")
CONNECT_PATIENCE = 8.0  # seconds
_KEY_VALUE = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)")


async def check_switch(switch: EventSocket, settings: Settings) -> list[Finding]:
    """The Event Socket and the modules."""
    name = "event socket"
    place = f"{settings.esl_host}:{settings.esl_port}"
    if not await switch.wait_connected(CONNECT_PATIENCE):
        return [
            failed(
                name,
                f"{place} cannot be used: {switch.error}",
                "mailboxes stay pending and no message is announced at once",
                "start FreeSWITCH with mod_event_socket; compare listen-ip, listen-port, password and ACL in "
                "event_socket.conf.xml with VOICEMAIL_ESL_HOST, _PORT and _PASSWORD",
            )
        ]
    version = (await switch.command(commands.version())).value
    found = [ok(name, f"{place}, {version.split(' (')[0]}")]
    for module in NEEDED:
        loaded = (await switch.command(commands.module_exists(module))).value == "true"
        if loaded:
            found.append(ok(module, "loaded"))
        else:
            found.append(
                failed(
                    module,
                    "not loaded",
                    "the switch cannot take or keep voicemail as the service needs it",
                    f"load {module} in {'pre_load_modules' if module == 'mod_pgsql' else 'modules'}.conf.xml",
                )
            )
    return found


async def check_profile(switch: EventSocket, settings: Settings, switch_dsn: str | None) -> list[Finding]:
    """The voicemail profile's real settings, read from the running switch."""
    name = f"profile {settings.profile}"
    reply = await switch.command(commands.xml_locate_configuration("voicemail.conf"))
    try:
        root = ElementTree.fromstring(reply.text)  # noqa: S314 - the operator's own switch
    except ElementTree.ParseError:
        return [failed(name, "the switch has no voicemail.conf", "mod_voicemail is not configured", "add voicemail.conf.xml")]
    profile = root.find(f".//profile[@name='{settings.profile}']")
    if profile is None:
        names = ", ".join(sorted(found.get("name", "") for found in root.iter("profile"))) or "none"
        return [failed(name, f"the switch has other profiles: {names}", "messages are kept elsewhere", "set VOICEMAIL_PROFILE")]
    values = {param.get("name", ""): param.get("value", "") for param in profile.iter("param")}
    return [
        _dsn(values.get("odbc-dsn", ""), switch_dsn),
        await _storage(switch, values.get("storage-dir", ""), settings),
        _pins(values),
    ]


def _dsn(odbc_dsn: str, ours: str | None) -> Finding:
    name = "odbc-dsn"
    if not odbc_dsn.startswith(("pgsql://", "postgresql://", "postgres://")):
        return failed(
            name,
            "not a pgsql:// DSN" if odbc_dsn else "not set: mod_voicemail uses SQLite",
            "the service cannot see the switch's messages",
            'set <param name="odbc-dsn" value="pgsql://host=… port=… dbname=… user=… password=…"/> and load mod_pgsql first',
        )
    if ours is None:
        return skipped(name, "the service's own database is not known")
    given = {key: value.strip("'") for key, value in _KEY_VALUE.findall(odbc_dsn.split("://", 1)[1])}
    theirs = f"{given.get('host') or given.get('hostaddr') or 'localhost'}:{given.get('port', '5432')}/{given.get('dbname', '')}"
    mine = where(ours)
    if theirs == mine:
        return ok(name, theirs)
    if theirs.rsplit("/", maxsplit=1)[-1] != mine.split("/")[-1]:
        return failed(
            name,
            f"the switch uses {theirs}, the service {mine}",
            "messages go to another database",
            "set VOICEMAIL_SWITCH_DATABASE_URL to the switch's",
        )
    return warning(
        name,
        f"the switch says {theirs}, the service {mine}",
        "one server may have two names; the newest recordings below show whether it is the same",
        "make sure both name one server",
    )


async def _storage(switch: EventSocket, storage: str, settings: Settings) -> Finding:
    name = "storage-dir"
    if not storage:
        base = (await switch.command(commands.global_getvar("storage_dir"))).value
        storage = f"{base}/voicemail/{settings.profile}"
    root = PurePosixPath(settings.recordings_root_on_switch)
    if PurePosixPath(storage) == root or root in PurePosixPath(storage).parents:
        return ok(name, f"{storage}, under {root}")
    return failed(
        name,
        f"the switch records to {storage}, the service looks under {root}",
        "no recording can be found, downloaded or mailed",
        f"set VOICEMAIL_RECORDINGS_SWITCH_PATH={storage} and VOICEMAIL_RECORDINGS_PATH to where this host sees that folder",
    )


def _true(value: str | None) -> bool:
    """How FreeSWITCH reads a switch in its configuration."""
    text = (value or "").lower()
    return text in {"true", "yes", "on", "enabled", "active", "allow", "t"} or (text.isdigit() and text != "0")


def _pins(values: dict[str, str]) -> Finding:
    name = "one PIN at a time"
    if not _true(values.get("db-password-override")):
        return warning(
            name,
            "db-password-override is off",
            "for the moments until the service has written a changed PIN to both places, two PINs open the mailbox",
            'set <param name="db-password-override" value="true"/> in the profile',
        )
    if _true(values.get("allow-empty-password-auth") or "true"):
        return warning(
            name,
            "allow-empty-password-auth is on (its default)",
            "a mailbox without a PIN opens for everyone who dials it",
            'set <param name="allow-empty-password-auth" value="false"/> in the profile',
        )
    return ok(name, "db-password-override is on, empty PINs are refused")
