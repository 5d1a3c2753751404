"""As root the doctor sees everything; the service does not. So it becomes the service's user before it looks."""

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.doctor.report import Finding, failed, ok, warning
from app.doctor.unit import Unit, read_unit

_PROGRAM = Path(__file__).parents[1]
_DROP_IN = "/etc/systemd/system/voicemail.service.d/paths.conf"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the service runs as."""

    user: str
    uid: int
    gid: int
    home: str


def become_service_user(env_file: Path) -> list[Finding]:
    """Give up root's rights for those of the unit's user, for good; or say whose rights are checked instead."""
    name = "service user"
    unit = read_unit()
    me = _name_of(os.geteuid())
    if unit is None:
        if os.geteuid() == 0:
            why = "root, because no voicemail.service is installed"
            return [warning(name, why, "root may read and write what the service may not", "run doctor as the service's user")]
        return [ok(name, f"{me}; no voicemail.service is installed")]
    account = _account(unit)
    if account is None:
        missing = f"{unit.user}{f':{unit.group}' if unit.group else ''}"
        return [failed(name, f"{missing} of {unit.path} does not exist", "the service does not start", _make_user(unit))]
    if os.geteuid() == account.uid:
        return [ok(name, f"{account.user}, as {unit.path} says")]
    if os.geteuid() != 0:
        remedy = f"run it as root, or: sudo -u {account.user} voicemail doctor"
        return [warning(name, f"this is {me}; {unit.path} says {account.user}", "their rights may differ", remedy)]
    there = os.path.exists(env_file)
    _become(account)
    return [_program_and_settings(name, account, unit, env_file if there else None)]


def check_unit_paths(settings: Settings) -> list[Finding]:
    """The folders that the service writes, held against what the unit leaves writable."""
    name, unit = "unit's paths", read_unit()
    if unit is None:
        return []
    wanted = {
        "VOICEMAIL_DIRECTORY_PATH": _above_domain(settings.directory_path),
        "VOICEMAIL_RECORDINGS_PATH": settings.recordings_path,
    }
    if settings.embedded or settings.secret_key is None:
        wanted["VOICEMAIL_DATA_DIR"] = settings.data_dir
    shut = {variable: path.absolute() for variable, path in wanted.items() if not unit.lets_write(path.absolute())}
    if not shut:
        return [ok(name, f"{unit.path} leaves them writable")]
    paths = " ".join(str(path) for path in shut.values())
    return [
        failed(
            name,
            f"{unit.path} leaves {paths} read-only ({', '.join(shut)})",
            "the service cannot write there, whatever the folder's owner and mode",
            f"write these lines to {_DROP_IN}, then systemctl daemon-reload: [Service] and ReadWritePaths={paths}",
        )
    ]


def _account(unit: Unit) -> Account | None:
    try:
        entry = pwd.getpwuid(int(unit.user)) if unit.user.isdigit() else pwd.getpwnam(unit.user)
        if not unit.group:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
        group = grp.getgrgid(int(unit.group)) if unit.group.isdigit() else grp.getgrnam(unit.group)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, group.gr_gid, entry.pw_dir)


def _become(account: Account) -> None:
    os.initgroups(account.user, account.gid)
    os.setgid(account.gid)
    os.setuid(account.uid)
    # As systemd sets them. Root's home would be looked into for keys of PostgreSQL and refuse.
    os.environ.update(HOME=account.home, USER=account.user, LOGNAME=account.user)
    if not os.access(".", os.X_OK):  # such as /root
        os.chdir("/")


def _program_and_settings(name: str, account: Account, unit: Unit, env_file: Path | None) -> Finding:
    if not os.access(_PROGRAM, os.R_OK | os.X_OK):
        why = f"{account.user} may not read the program in {_PROGRAM}"
        return failed(name, why, "the service does not start", "install it where that user may read, such as /opt/voicemail")
    if env_file is not None and not os.access(env_file, os.R_OK):
        group = grp.getgrgid(account.gid).gr_name
        remedy = f"chown root:{group} {env_file} && chmod 0640 {env_file}"
        return failed(name, f"{account.user} may not read {env_file}", "the service does not start", remedy)
    return ok(name, f"{account.user}, as {unit.path} says: what follows is checked with its rights")


def _make_user(unit: Unit) -> str:
    if unit.user == "freeswitch":
        return "install FreeSWITCH first, or run deploy/install.sh again, which makes it"
    return f"make it, or name the switch's user in a drop-in: systemctl edit {unit.path.name}"


def _above_domain(path: Path) -> Path:
    """The folder that holds each domain's, if the path names one a domain."""
    return next((part.parent for part in (path, *path.parents) if "{domain}" in part.name), path)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
