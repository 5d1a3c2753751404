"""Looks for links inside the recordings folder, which are not followed."""

import asyncio
import time

from app.config import Settings
from app.doctor.report import Finding, warning
from app.errors import Unavailable
from app.recordings.files import IS_LINK, walk
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage

_LONGEST = 10.0  # seconds to look for them


async def check_links(settings: Settings) -> list[Finding]:
    """A warning if there are any."""
    storage = RecordingStorage(RecordingPaths(settings.recordings_path, settings.recordings_root_on_switch))
    links = await asyncio.to_thread(_links, storage)
    if not links:
        return []
    return [
        warning(
            "links to recordings",
            f"{len(links)} in {settings.recordings_path}, such as {links[0]}",
            "they are not followed: the messages behind them are listed, but not downloaded and not mailed",
            "put a bind mount in the link's place (docs/operations.md, Recordings on several disks)",
        )
    ]


def _links(storage: RecordingStorage) -> list[str]:
    found: list[str] = []

    def skipped(path: str, reason: str) -> None:
        if reason == IS_LINK:
            found.append(path.encode(errors="replace").decode())

    until = time.monotonic() + _LONGEST
    try:
        for _ in walk(storage, "", skipped):
            if time.monotonic() > until:
                break
    except Unavailable:
        return []  # a finding of its own
    return found
