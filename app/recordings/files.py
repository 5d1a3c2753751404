"""The recordings folder on disk: which message files are there, and what one of them holds. All of it blocks: for a thread."""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from app.errors import NotFound, Unavailable
from app.recordings.model import FoundFile, Recording, fits_index, is_message_name
from app.recordings.storage import OpenRecording, RecordingsFolderGone, RecordingStat, RecordingStorage
from app.recordings.wav import WavFacts, wav_facts

_BLOCK = 1 << 18  # bytes hashed between two looks at whether to stop
LARGEST_HASHED = 1 << 30  # bytes: 18 hours of a usual call. A larger file is indexed without a digest.
LONGEST_HASHED = 10.0  # seconds for one file
IS_LINK = "it is a link, and links are not followed; use a bind mount (docs/operations.md)"


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


def walk(storage: RecordingStorage, below: str, skipped: Callable[[str, str], None]) -> Iterator[FoundFile]:
    """Every message file under the folder ``below``, by no link. ``skipped`` hears of what cannot be indexed, and why."""
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        try:
            with storage.folder(folder) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif (entry.is_symlink() or is_message_name(entry.name)) and (found := _entry(path, entry, skipped)):
                        yield found
        except FileNotFoundError:
            continue  # removed since it was listed: the watcher will report it
        except OSError as error:
            skipped(folder, error.strerror or "cannot be read")


def look(storage: RecordingStorage, path: str, skipped: Callable[[str, str], None]) -> list[FoundFile] | None:
    """The message file at ``path``, or those in the folder there; None if nothing is there any more."""
    if path in ("", "."):
        return list(walk(storage, "", skipped))
    try:
        with storage.folder_of(path) as (folder, name):
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (NotFound, Unavailable, OSError):
        return None
    if stat.S_ISDIR(facts.st_mode):
        return list(walk(storage, path, skipped))
    found = _found(path, facts, skipped)
    return [found] if found else []


def _entry(path: str, entry: "os.DirEntry[str]", skipped: Callable[[str, str], None]) -> FoundFile | None:
    """One entry of a folder; its trouble is not that of the others."""
    try:
        return _found(path, entry.stat(follow_symlinks=False), skipped)
    except FileNotFoundError:
        return None  # removed since it was listed
    except OSError as error:
        skipped(path, error.strerror or "cannot be looked at")
        return None


def _found(path: str, facts: os.stat_result, skipped: Callable[[str, str], None]) -> FoundFile | None:
    if stat.S_ISLNK(facts.st_mode):
        skipped(path, IS_LINK)
        return None
    if not is_message_name(PurePosixPath(path).name) or not stat.S_ISREG(facts.st_mode):
        return None
    if not fits_index(path):
        skipped(path, "its name is too long or no UTF-8")
        return None
    now = RecordingStat.of(facts)
    return FoundFile(path, now.size, now.mtime_ns)


def read(storage: RecordingStorage, key: str, stop: Callable[[], bool]) -> Recording | None:
    """What a recording holds; None if it is gone, refused, or changed while it was read. Raises ``Interrupted``.

    A file that is damaged, or whose disk fails, has facts that say so: it is not read again as long as it stays as it is.
    """
    try:
        recording = storage.open(key)
    except (NotFound, Unavailable, OSError):
        return None
    suffix = PurePosixPath(key).suffix.lower().removeprefix(".")
    facts, digest, damage = None, None, ""
    with recording:
        before = recording.opened
        try:
            facts, digest = _content(recording, stop)
            if recording.stat() != before:
                return None
        except OSError as error:
            damage = f"it cannot be read: {error.strerror}"
    if not damage and before.size == 0:
        damage = "it is empty"
    elif not damage and facts is None and suffix == "wav":
        damage = "it has no WAV header that can be true"
    return Recording(
        path=key,
        size=before.size,
        mtime_ns=before.mtime_ns,
        duration=facts.duration if facts else None,
        codec=facts.codec if facts else suffix,
        sample_rate=facts.sample_rate if facts else None,
        channels=facts.channels if facts else None,
        sha256=digest,
        damage=damage,
    )


def _content(recording: OpenRecording, stop: Callable[[], bool]) -> tuple[WavFacts | None, bytes | None]:
    with open(recording.descriptor, "rb", buffering=0, closefd=False) as file:
        size = recording.opened.size
        facts = wav_facts(file, size)
        return facts, _digest(file, stop) if size <= LARGEST_HASHED else None


def _digest(file: BinaryIO, stop: Callable[[], bool]) -> bytes | None:
    """The file's SHA-256; None if it takes too long."""
    file.seek(0)
    digest, until = hashlib.sha256(), time.monotonic() + LONGEST_HASHED
    while block := file.read(_BLOCK):
        digest.update(block)
        if stop():
            raise Interrupted
        if time.monotonic() > until:
            return None
    return digest.digest()


def look_all(
    storage: RecordingStorage, paths: Iterable[str], skipped: Callable[[str, str], None]
) -> tuple[list[FoundFile], list[str]]:
    """The message files at or below these paths, and the paths at which nothing is any more."""
    found, gone = [], []
    for path in paths:
        files = look(storage, path, skipped)
        if files is None:
            gone.append(path)
        else:
            found += files
    return found, gone


def read_some(
    storage: RecordingStorage, keys: Sequence[str], stop: Callable[[], bool], seconds: float
) -> tuple[list[Recording], Sequence[str]]:
    """Read recordings for about so many seconds: what they hold, and the keys that are left for another time."""
    until, recordings = time.monotonic() + seconds, []
    for number, key in enumerate(keys, 1):
        if (recording := read(storage, key, stop)) is not None:
            recordings.append(recording)
        if time.monotonic() > until:
            return recordings, keys[number:]
    return recordings, ()


def missing(storage: RecordingStorage, paths: Iterable[str]) -> list[str]:
    """Those of the paths at which nothing is."""
    return [path for path in paths if not storage.exists(path)]
