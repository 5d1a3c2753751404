"""The files that settings may stand in: who may have written a ``.env``, and which names are in it and in a folder of secrets."""

import io
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from app.errors import FieldError, SettingsError

_LARGEST = 1024 * 1024  # bytes
IMPLICIT = Path(".env")  # of the working directory, which anybody may have chosen


def read_env_file(path: Path) -> Mapping[str, str]:
    """The variables of a file such as ``.env``; none if it is not there.

    A file that another user may have written is not read. The ``.env`` of the working directory is passed over then, and a line
    on standard error says so; for a file that was asked for by name ``SettingsError`` is raised, as for one that is no text.
    """
    try:
        text = _read(path)
    except FileNotFoundError:
        return {}
    except _NotOurs as error:
        if path != IMPLICIT:
            raise SettingsError.field(str(path), f"is not read: {error}") from None
        print(f"voicemail: {path.absolute()} is not read: {error}", file=sys.stderr)
        return {}
    except OSError as error:
        raise SettingsError.field(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError.field(str(path), "cannot be read: it is not UTF-8") from None
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value is not None}


def unknown_names(names: Iterable[str], prefix: str, fields: Iterable[str], place: str = "") -> list[FieldError]:
    """An error for each name that begins with ``prefix``, in whatever capitals, and is no setting."""
    known = {prefix + field.upper() for field in fields}
    wrong = sorted(name for name in names if name.upper().startswith(prefix) and name.upper() not in known)
    where = f"; it stands in {place}" if place else ""
    return [FieldError(name, f"is not a setting of this service{where}") for name in wrong]


def names_in(folder: Path | None) -> list[str]:
    """The names of the files in a folder of secrets; none if there is no folder, or if it cannot be read."""
    try:
        return [] if folder is None else [name.encode("utf-8", "replace").decode() for name in os.listdir(folder)]
    except OSError:
        return []


class _NotOurs(Exception):
    """Another user may have written the file."""


def _read(path: Path) -> str:
    """The text of a file that only this process's user or root can have written; what was checked is what is read."""
    link = path.lstat()
    if link.st_uid not in (os.geteuid(), 0):
        raise _NotOurs("it belongs to another user")
    if path.is_dir():
        raise _NotOurs("it is not a file")
    # Without O_NONBLOCK a pipe of that name would hold the command.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise _NotOurs("it is not a file")
        if facts.st_uid not in (os.geteuid(), 0):
            raise _NotOurs("it belongs to another user")
        if facts.st_mode & 0o022:
            raise _NotOurs(f"others may write it; chmod go-w {path}")
        return file.read(_LARGEST).decode("utf-8")
