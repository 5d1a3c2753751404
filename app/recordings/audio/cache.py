"""Converted recordings on disk, at most so many bytes of them: what was used least recently goes first. All of it blocks.

A file is written under a draft's name and renamed when it is whole, so that a killed process leaves nothing that is served.
Several processes may share the folder.
"""

import os
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from app.recordings.storage import OpenRecording

_DRAFT = ".draft-"
_ABANDONED = 600.0  # seconds after which a draft is nobody's any more
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is being written."""

    path: Path
    descriptor: int


class AudioCache:
    """A folder of whole files by name. It holds nothing that cannot be made again."""

    def __init__(self, folder: Path, most: int) -> None:
        """``most``: bytes."""
        self._folder = folder
        self._most = most

    def open(self, name: str) -> OpenRecording | None:
        """A kept file, open; it counts as used now."""
        try:
            descriptor = os.open(self._folder / name, _OPEN)
        except OSError:
            return None
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.utime(descriptor)
                return OpenRecording(descriptor, name)
        except OSError:
            pass  # a folder that is read-only now is used as it is
        os.close(descriptor)
        return None

    def draft(self) -> Draft:
        """A new file for this user alone. Raises ``OSError``."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{_DRAFT}{secrets.token_hex(12)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return Draft(path, os.open(path, flags, 0o600))

    def keep(self, draft: Draft, name: str) -> None:
        """Keep a draft that is whole under its name, and make room for it. Raises ``OSError``."""
        os.fsync(draft.descriptor)  # else a power failure may leave the name of an empty file
        draft.path.rename(self._folder / name)
        self.trim()

    def drop(self, draft: Draft) -> None:
        """Remove a draft, if it is still one, and close it."""
        os.close(draft.descriptor)
        draft.path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove what exceeds the bound, and drafts of processes that were killed."""
        kept: list[tuple[float, int, str]] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if not entry.name.startswith(_DRAFT):
                    kept.append((facts.st_mtime, facts.st_size, entry.name))
                elif facts.st_mtime < time.time() - _ABANDONED:
                    self._remove(entry.name)
        excess = sum(size for _, size, _ in kept) - self._most
        for _, size, name in sorted(kept):
            if excess <= 0:
                return
            self._remove(name)
            excess -= size

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
