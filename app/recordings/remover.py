"""Removes a recording's file: exactly the name in its row, never what a link leads to. Everything here blocks: use a thread."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import NotFound
from app.recordings.paths import OutsideRecordings, RecordingPaths


class FileRemover:
    """Removes files below the recordings folder. It opens the folder of the file first, and works inside that."""

    def __init__(self, paths: RecordingPaths) -> None:
        self._paths = paths

    def obstacle(self, file_path: str) -> str:
        """Why the file could not be removed; ``""`` if it could be, or if there is none.

        FreeSWITCH makes a mailbox's folder with mode 0750, so only a service of the same user may remove files there.
        """
        try:
            with self._folder(file_path) as (folder, name):
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                may = os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)
        except FileNotFoundError:
            return ""
        except NotFound as error:
            return error.detail
        except OSError as error:
            return f"the recording's folder cannot be opened: {error.strerror}"
        if not stat.S_ISREG(facts.st_mode):
            return "the recording is not a plain file"
        return "" if may else "this service may not remove files from the recording's folder"

    def remove(self, file_path: str) -> bool:
        """Remove the file, to stay removed also if the power fails; False if there is none.

        Raises ``OSError``, and ``NotFound`` for what is not a plain file in the recordings folder.
        """
        try:
            with self._folder(file_path) as (folder, name):
                if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise NotFound("the recording is not a plain file")
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            return False
        return True

    def exists(self, file_path: str) -> bool:
        """Whether there is anything under this name, as far as this process may look."""
        try:
            with self._folder(file_path) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (NotFound, OSError):
            return False
        return True

    @contextmanager
    def _folder(self, file_path: str) -> Iterator[tuple[int, str]]:
        """The opened folder of a file, and the file's name in it. Raises ``OutsideRecordings`` or ``OSError``."""
        relative = self._paths.relative(file_path)
        root = self._paths.root.resolve()
        path = root / (relative or "")
        parent = path.parent.resolve()
        if relative is None or (parent != root and root not in parent.parents):
            raise OutsideRecordings("the recording is not in the recordings folder")
        folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield folder, path.name
        finally:
            os.close(folder)
