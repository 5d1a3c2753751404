"""Checks that the recordings are at the paths in the switch's rows."""

import os
from pathlib import Path

from app.config import Settings
from app.database.pool import connect
from app.doctor.report import Finding, failed, ok, skipped, warning
from app.errors import DatabaseFailed, NotFound, Unavailable
from app.recordings.paths import OutsideRecordings, RecordingPaths
from app.recordings.storage import RecordingStorage

_NEWEST = """
SELECT file_path FROM voicemail_msgs
WHERE domain = $1 AND flags IS DISTINCT FROM 'delete' AND file_path <> ''
ORDER BY created_epoch DESC NULLS LAST LIMIT 5
"""


async def check_recordings(settings: Settings, switch_dsn: str | None) -> list[Finding]:
    """Check the recordings folder, and test the path mapping on the newest rows."""
    root = settings.recordings_path
    folder = _folder(root)
    if switch_dsn is None:
        return [folder, skipped("recordings path", "the switch's tables are not known")]
    try:
        connection = await connect(switch_dsn, application_name="doctor")
        try:
            rows = await connection.fetch(_NEWEST, settings.domain)
        finally:
            await connection.close()
    except DatabaseFailed as error:
        why = f"the newest rows cannot be read: {error.reason}"
        return [folder, failed("recordings path", why, "no message can be read", "mend what the checks above say")]
    paths = RecordingPaths(root, settings.recordings_root_on_switch)
    storage = RecordingStorage(paths, refuse_hard_links=settings.recordings_refuse_hard_links)
    return [folder, _mapping(storage, settings, [row["file_path"] for row in rows])]


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


def _mapping(storage: RecordingStorage, settings: Settings, rows: list[str]) -> Finding:
    name = "recordings path"
    mapping = f"{settings.recordings_root_on_switch} on the switch is {storage.paths.root} here"
    if not rows:
        return warning(
            name, f"{mapping}; no message yet to prove it on", "it may still be wrong", "leave a message, then run this again"
        )
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
