"""Files and folders of the static directory on the disk: whole or not at all, and readable by the switch's group alone."""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

# One name, so that the next probe removes what a killed one left. It does not match *.xml, so the switch never reads it.
_PROBE = ".voicemail-probe.tmp"
_PROBE_TRIES = 10
_PROBE_SIZE = 4096  # bytes; less may still fit on a full disk, as in an inode
# The switch runs as another user and must read what holds PINs, and nobody else may: the folder's group is the switch's, and
# with its setgid bit (chmod 2750) the files have that group too.
_MODE = 0o640
_FOLDER_MODE = 0o750


def replace(path: Path, content: bytes, *, sync: bool) -> None:
    """Write a file so that a reader, or a power cut, sees the old one or the new one whole. ``sync``: the folder, too."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def remove(path: Path, *, sync: bool = True) -> None:
    """Remove a file that may be gone already. ``sync``: the folder, too."""
    with suppress(FileNotFoundError):
        path.unlink()
        if sync:
            sync_folder(path.parent)


def probe(folder: Path) -> None:
    """Prove that a mailbox could be written now: the rights, the file system and the space. Raises ``OSError``."""
    with os.scandir(folder):
        pass  # reading the folder is a right of its own
    descriptor = _make(folder / _PROBE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(_PROBE_SIZE))
            file.flush()
            os.fsync(file.fileno())
    finally:
        (folder / _PROBE).unlink(missing_ok=True)


def _make(path: Path) -> int:
    """A new empty file at ``path``. Copies of the service that share the folder may remove each other's: try again then."""
    for _ in range(_PROBE_TRIES):
        path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    raise FileExistsError(errno.EEXIST, f"{path.name} is made again and again", str(path))


def make_folder(folder: Path, root: Path) -> None:
    """Make what is missing of ``folder`` below ``root``, but never ``root``: it may be a disk that is not mounted yet.

    A folder whose parent has the setgid bit gets the parent's group, which must be the switch's.
    """
    for path in (*reversed(folder.relative_to(root).parents[:-1]), Path(folder.relative_to(root))):
        try:
            (root / path).mkdir(_FOLDER_MODE)
        except FileExistsError:
            continue
        mode = stat.S_IMODE((root / path).stat().st_mode)
        if mode & _FOLDER_MODE != _FOLDER_MODE:  # the umask took something
            (root / path).chmod(mode | _FOLDER_MODE)
        sync_folder((root / path).parent)
        log.info("directory_folder_made", folder=str(root / path))


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
