"""Writes whole files into the recordings folder: a greeting, or a message that no call left. Blocks: for a thread.

A temporary name, fsync, rename: whoever looks finds the old file or the new one. Folders and files get the owner, or at least
the group, of the folder they are in, so that the switch can read and replace them.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from secrets import token_hex

from app.errors import NotFound, Unavailable
from app.recordings.storage import RecordingStorage

_LEFT_OVER = 3600.0  # seconds after which a temporary file belongs to nobody
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write(storage: RecordingStorage, key: str, data: bytes) -> None:
    """Write a file, to stay also if the power fails; folders that are missing are made. Raises ``Unavailable``."""
    with _failing(key):
        _make_folders(storage, PurePosixPath(key).parent)
        with storage.folder_of(key) as (folder, name):
            _remove_left_overs(folder)
            temporary = f".{name}.new"
            try:
                _write_new(folder, temporary, data)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)


def _write_new(folder: int, name: str, data: bytes) -> None:
    descriptor = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        above = os.fstat(folder)
        match _belong(descriptor, above):
            case "owner":
                os.fchmod(descriptor, 0o640 | above.st_mode & stat.S_IWGRP)
            case "group":
                os.fchmod(descriptor, 0o660)
            case _:  # the folder's own mode says who comes this far
                os.fchmod(descriptor, 0o644)
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(storage: RecordingStorage, wanted: PurePosixPath) -> None:
    for depth, name in enumerate(wanted.parts):
        with storage.folder("/".join(wanted.parts[:depth])) as above:
            try:
                os.stat(name, dir_fd=above, follow_symlinks=False)
            except FileNotFoundError:
                _make_folder(above, name)


def _make_folder(above: int, name: str) -> None:
    """Make a folder that the switch can use as soon as it can see it."""
    temporary = f".{name}.{token_hex(4)}.new"
    os.mkdir(temporary, 0o750, dir_fd=above)
    try:
        made = os.open(temporary, _FOLDER, dir_fd=above)
        try:
            facts = os.fstat(above)
            match _belong(made, facts):
                case "owner":  # as FreeSWITCH makes it; where the group may write, the switch may be another user of the group
                    os.fchmod(made, 0o750 | facts.st_mode & stat.S_IWGRP)
                case "group":
                    os.fchmod(made, 0o770)
                case _:
                    raise Unavailable("the mailbox has no folder yet, and one made by this service would shut the switch out")
        finally:
            os.close(made)
        try:
            os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # the switch made it meanwhile
                raise
            os.rmdir(temporary, dir_fd=above)
    except BaseException:
        with suppress(OSError):
            os.rmdir(temporary, dir_fd=above)
        raise
    os.fsync(above)


def _belong(descriptor: int, folder: os.stat_result) -> str:
    """Give a new thing the owner of its folder, or its group; which of the two it has."""
    facts = os.fstat(descriptor)
    if (facts.st_uid, facts.st_gid) != (folder.st_uid, folder.st_gid):
        for owner in (folder.st_uid, -1):
            with suppress(PermissionError):
                os.fchown(descriptor, owner, folder.st_gid)
                break
        facts = os.fstat(descriptor)
    if facts.st_uid == folder.st_uid:
        return "owner"
    return "group" if facts.st_gid == folder.st_gid else "neither"


def _remove_left_overs(folder: int) -> None:
    """Remove what a process that was killed left under a temporary name."""
    before = time.time() - _LEFT_OVER
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(".new"):
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode) and facts.st_mtime < before:
                    os.unlink(entry.name, dir_fd=folder)


@contextmanager
def _failing(key: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise Unavailable(error.detail) from error
    except OSError as error:
        name = PurePosixPath(key).name
        raise Unavailable(f"{name} cannot be written: {error.strerror or type(error).__name__}") from error
