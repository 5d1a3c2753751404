"""The recordings folder on disk: which message files are there, and what one of them holds. All of it blocks: for a thread."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from app.errors import Unavailable
from app.recordings.model import FoundFile, Recording, fits_index, is_message_name
from app.recordings.wav import wav_facts

_BLOCK = 1 << 18  # bytes hashed between two looks at whether to stop


class RecordingsFolderGone(Unavailable):
    """The recordings folder is not there, or was emptied at once, as when its disk is not mounted."""


class Interrupted(Exception):
    """Reading was asked to stop."""


def folder_identity(root: Path) -> tuple[int, int]:
    """What tells the folder from another one of the same name. Raises ``RecordingsFolderGone``."""
    try:
        facts = root.stat()
        if stat.S_ISDIR(facts.st_mode):
            return facts.st_dev, facts.st_ino
    except OSError as error:
        raise RecordingsFolderGone(f"the recordings folder cannot be read: {error.strerror}") from error
    raise RecordingsFolderGone("the recordings folder is not a folder")


def is_empty(root: Path) -> bool:
    """Whether there is nothing at all in the folder. Raises ``RecordingsFolderGone``."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError as error:
        raise RecordingsFolderGone(f"the recordings folder cannot be read: {error.strerror}") from error


def walk(root: Path, below: str, skipped: Callable[[str, str], None]) -> Iterator[FoundFile]:
    """Every message file under ``root/below``; no link is followed. ``skipped`` hears of what cannot be indexed, and why."""
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif is_message_name(entry.name) and (found := _found(path, entry.stat(follow_symlinks=False), skipped)):
                        yield found
        except FileNotFoundError:
            continue  # gone since it was listed: the watcher hears of it
        except OSError as error:
            skipped(folder, error.strerror or "cannot be read")


def look(root: Path, path: str, skipped: Callable[[str, str], None]) -> list[FoundFile] | None:
    """The message file at ``path``, or those in the folder there; None where nothing is there any more."""
    try:
        facts = (root / path).lstat()
    except OSError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        return list(walk(root, path, skipped))
    found = _found(path, facts, skipped) if is_message_name(PurePosixPath(path).name) else None
    return [found] if found else []


def _found(path: str, facts: os.stat_result, skipped: Callable[[str, str], None]) -> FoundFile | None:
    if not stat.S_ISREG(facts.st_mode):
        return None
    if not fits_index(path):
        skipped(path, "its name is too long or no UTF-8")
        return None
    return FoundFile(path, facts.st_size, facts.st_mtime_ns)


def read(path: Path, relative: str, stop: Callable[[], bool]) -> Recording | None:
    """What the file holds; None where it is gone, no plain file, or changed while it was read. Raises ``Interrupted``."""
    try:
        # Neither a link nor a pipe put there in the meantime is opened or waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return None
        try:
            facts = wav_facts(file, before.st_size)
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(_BLOCK):
                digest.update(block)
                if stop():
                    raise Interrupted
            after = os.fstat(descriptor)
        except OSError:
            return None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return None
    suffix = PurePosixPath(relative).suffix.lower().removeprefix(".")
    return Recording(
        path=relative,
        size=after.st_size,
        mtime_ns=after.st_mtime_ns,
        duration=facts.duration if facts else None,
        codec=facts.codec if facts else suffix,
        sample_rate=facts.sample_rate if facts else None,
        channels=facts.channels if facts else None,
        sha256=digest.digest(),
    )


def look_all(root: Path, paths: Iterable[str], skipped: Callable[[str, str], None]) -> tuple[list[FoundFile], list[str]]:
    """The message files at or below these paths, and the paths where nothing is any more."""
    found, gone = [], []
    for path in paths:
        files = look(root, path, skipped)
        if files is None:
            gone.append(path)
        else:
            found += files
    return found, gone


def read_all(wanted: Iterable[tuple[Path, str]], stop: Callable[[], bool]) -> list[Recording]:
    """What these files hold, without those that are gone or change; each with the path it has in the index."""
    return [recording for path, relative in wanted if (recording := read(path, relative, stop)) is not None]


def missing(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of the paths at which nothing is."""
    return [path for path in paths if not os.path.lexists(root / path)]
