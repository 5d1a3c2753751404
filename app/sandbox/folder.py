"""The sandbox's folder: of one sandbox at a time, and for the eyes of its user only, because it holds calls and mails."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import VoicemailError

_ANOTHER = "set VOICEMAIL_DATA_DIR to another folder"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it as long as the block. Raises ``VoicemailError`` if it is another sandbox's or user's.

    Whatever this process makes from now on is readable by its user only.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)
    folder.mkdir(exist_ok=True)
    owner = folder.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise VoicemailError(f"{folder} belongs to another user (uid {owner}): {_ANOTHER}")
    # Root's PostgreSQL runs as another user, who must get through to its own folder.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VoicemailError(f"a sandbox runs in {folder} already: stop it, or {_ANOTHER}") from None
        for name in ("recordings", "directory", "mail"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name).chmod(0o700)
        if (log := folder / "voicemail.log").exists():
            log.chmod(0o600)
        yield
