"""From a path as the switch writes it to a file of this machine, and never to one outside the recordings folder."""

from pathlib import Path, PurePosixPath

from app.errors import NotFound


class OutsideRecordings(NotFound):
    """The recording is not in the recordings folder."""


def _parts(path: str) -> tuple[str, ...]:
    # Two slashes at the start mean nothing here, but pathlib keeps them.
    return PurePosixPath("/" + path.lstrip("/") if path.startswith("/") else path).parts


class RecordingPaths:
    """The recordings folder under its two names: ``root`` here and ``switch_root`` in the switch's ``file_path``."""

    def __init__(self, root: Path, switch_root: str) -> None:
        self.root = root.absolute()
        self._switch_parts = _parts(switch_root)

    def relative(self, file_path: str) -> str | None:
        """``file_path`` below the recordings folder, as the index names it; None where it lies elsewhere. Reads no disk."""
        parts = _parts(file_path)
        depth = len(self._switch_parts)
        if "\0" in file_path or ".." in parts or len(parts) <= depth or parts[:depth] != self._switch_parts:
            return None
        return "/".join(parts[depth:])

    def on_switch(self, relative: str) -> str:
        """The switch's name for a recording that the index names ``relative``; the way back is ``relative``."""
        return "/".join(("", *self._switch_parts[1:], relative))

    def local(self, file_path: str) -> Path:
        """Where this process finds the recording, every symbolic link followed; the file need not exist.

        Raises ``OutsideRecordings`` for a path that is not below the folder, also where only a link leads out of it.
        """
        relative = self.relative(file_path)
        if relative is None:
            raise self._outside(file_path)
        try:
            root = self.root.resolve()
            path = (root / relative).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise self._outside(file_path) from error
        if root not in path.parents:
            raise self._outside(file_path)
        return path

    @staticmethod
    def _outside(file_path: str) -> OutsideRecordings:
        name = file_path.rsplit("/", 1)[-1].encode(errors="replace").decode()
        return OutsideRecordings(f"the recording {name!r} is not in the recordings folder")
