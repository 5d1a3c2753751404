"""From a path as the switch writes it to a key below the recordings folder, and back. Pure functions: ``storage`` opens files."""

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
        """``file_path`` below the recordings folder, as the index names it; None if it lies elsewhere. Reads no disk."""
        parts = _parts(file_path)
        depth = len(self._switch_parts)
        if "\0" in file_path or ".." in parts or len(parts) <= depth or parts[:depth] != self._switch_parts:
            return None
        return "/".join(parts[depth:])

    def on_switch(self, relative: str) -> str:
        """The switch's name for a recording that the index names ``relative``; the way back is ``relative``."""
        return "/".join(("", *self._switch_parts[1:], relative))
