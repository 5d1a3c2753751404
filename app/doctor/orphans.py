"""Checks for recordings without a row in voicemail_msgs."""

from contextlib import AsyncExitStack

from app.config import Settings
from app.database.pool import close_pool, open_pool
from app.doctor.report import Finding, ok, skipped, warning
from app.errors import VoicemailError
from app.messages.orphans import Orphans
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.switch.tables.encoding import prepare_switch_connection, reset_switch_connection

NAME = "recordings without a row"


async def check_orphans(settings: Settings, dsn: str | None, switch_dsn: str | None) -> list[Finding]:
    """Compare the recordings folder with voicemail_msgs."""
    if switch_dsn is None:
        return [skipped(NAME, "the switch's tables are not known")]
    storage = RecordingStorage(RecordingPaths(settings.recordings_path, settings.recordings_root_on_switch))
    try:
        async with AsyncExitStack() as stack:
            switch_pool = await open_pool(
                switch_dsn, size=1, application_name="doctor", prepare=prepare_switch_connection, reset=reset_switch_connection
            )
            stack.push_async_callback(close_pool, switch_pool)
            pool = await open_pool(dsn, size=1, application_name="doctor") if dsn else None
            if pool is not None:
                stack.push_async_callback(close_pool, pool)
                if not await pool.fetchval("SELECT to_regclass('voicemail.message') IS NOT NULL"):
                    pool = None  # before the first start
            found = [orphan.path async for orphan in Orphans(pool, switch_pool, storage, None).find()]
    except VoicemailError as error:
        return [skipped(NAME, f"they could not be looked for: {type(error).__name__}")]
    if not found:
        return [ok(NAME, "none that is older than ten minutes")]
    return [
        warning(
            NAME,
            f"{len(found)} older than ten minutes, such as {found[0].encode(errors='replace').decode()}",
            "the switch failed to insert their rows, or lost them: no phone, list or mail tells of these messages",
            "voicemail recording orphans lists them, and --deliver EXTENSION puts them into their mailbox",
        )
    ]
