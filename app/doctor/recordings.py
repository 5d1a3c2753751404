"""Checks that the recordings are at the paths in the switch's rows."""

import os
from collections.abc import Sequence
from pathlib import Path

from app.addressing import Domain
from app.config import Settings
from app.database.pool import connect
from app.doctor.directory import named
from app.doctor.report import Finding, failed, ok, skipped, warning
from app.errors import DatabaseFailed, NotFound, Unavailable
from app.recordings.paths import OutsideRecordings, RecordingPaths
from app.recordings.storage import RecordingStorage

_MAPPING = "recordings path"
_NEWEST = """
SELECT d.domain, m.file_path FROM unnest($1::text[]) AS d (domain) CROSS JOIN LATERAL (
    SELECT file_path FROM voicemail_msgs
    WHERE domain = d.domain AND flags IS DISTINCT FROM 'delete' AND file_path <> ''
    ORDER BY created_epoch DESC NULLS LAST LIMIT 5
) m
"""


async def check_recordings(settings: Settings, switch_dsn: str | None, hosted: Sequence[Domain]) -> list[Finding]:
    """The recordings folder, and the path mapping proven on the newest rows of each domain."""
    root = settings.recordings_path
    folder = _folder(root)
    if switch_dsn is None:
        return [folder, skipped(_MAPPING, "the switch's tables are not known")]
    try:
        connection = await connect(switch_dsn, application_name="doctor")
        try:
            rows = await connection.fetch(_NEWEST, list(hosted))
        finally:
            await connection.close()
    except DatabaseFailed as error:
        why = f"the newest rows cannot be read: {error.reason}"
        return [folder, failed(_MAPPING, why, "no message can be read", "mend what the checks above say")]
    paths = RecordingPaths(root, settings.recordings_root_on_switch)
    storage = RecordingStorage(paths, refuse_hard_links=settings.recordings_refuse_hard_links)
    newest = {domain: [path for of, path in rows if of == domain] for domain in hosted}
    if not any(newest.values()):
        return [folder, _unproven(storage, settings)]
    proven = [_mapping(named(_MAPPING, domain, settings), storage, settings, paths) for domain, paths in newest.items() if paths]
    return [folder, *proven]


def _folder(root: Path) -> Finding:
    name = "recordings folder"
    if not root.is_dir():
        return failed(
            name, f"{root} is not a folder", "no recording can be found", "mount it here, or set VOICEMAIL_RECORDINGS_PATH"
        )
    if not os.access(root, os.R_OK | os.X_OK):
        return failed(
            name, f"{root} may not be read", "no recording can be found", "let the service's user be in the switch's group"
        )
    if not os.access(root, os.W_OK):
        return warning(
            name,
            f"{root} can be read, not written",
            "messages are kept after their mail, also if the mailbox says local_after_email false",
            "run the service as the switch's user",
        )
    return ok(name, str(root))


def _where(storage: RecordingStorage, settings: Settings) -> str:
    return f"{settings.recordings_root_on_switch} on the switch is {storage.paths.root} here"


def _unproven(storage: RecordingStorage, settings: Settings) -> Finding:
    found = f"{_where(storage, settings)}; no message yet to prove it on"
    return warning(_MAPPING, found, "it may still be wrong", "leave a message, then run this again")


def _mapping(name: str, storage: RecordingStorage, settings: Settings, rows: list[str]) -> Finding:
    mapping = _where(storage, settings)
    missing: list[str] = []
    for file_path in rows:
        try:
            storage.open(storage.key(file_path)).close()
        except OutsideRecordings:
            return failed(
                name,
                f"{file_path} is not under {settings.recordings_root_on_switch}",
                "its recording cannot be found, downloaded or mailed",
                "set VOICEMAIL_RECORDINGS_SWITCH_PATH to the folder as it begins in that path",
            )
        except (NotFound, Unavailable) as error:
            missing.append(f"{file_path} ({error.detail})")
    if missing:
        return failed(
            name,
            f"{len(missing)} of the newest {len(rows)} recordings cannot be opened here, such as {missing[0]}",
            f"this is where {mapping} leads",
            "mount the switch's folder here, correct the two VOICEMAIL_RECORDINGS settings, or mend the rights",
        )
    if obstacle := next((why for file_path in rows if (why := storage.obstacle(storage.key(file_path)))), ""):
        return warning(
            name,
            f"{mapping}; {obstacle}",
            "messages are kept after their mail, also if the mailbox says local_after_email false",
            "run the service as the switch's user: FreeSWITCH makes each mailbox's folder with mode 0750",
        )
    return ok(name, f"{mapping}: the newest {len(rows)} can be opened and removed")
