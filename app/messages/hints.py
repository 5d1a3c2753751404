"""Recordings whose rows are expected: an event or a change in the folder named them. A hint is looked up, never believed."""

import time
from collections.abc import Iterable

from app.recordings.paths import RecordingPaths
from app.switch.tables.model import MessageRow

OPEN = 300.0  # seconds for which a hinted recording is looked up: a caller may listen to menus before the row is written
_MOST = 10_000  # recordings at once; the looks at the table find the rest
_MOST_PREFIXES = 8
_LONGEST = 255  # characters of file_path


class Hints:
    """The recordings that are looked up by name, until their rows are found or the time has passed."""

    def __init__(self, paths: RecordingPaths, *, open_for: float = OPEN) -> None:
        self._paths = paths
        self._open_for = open_for
        self._hinted: dict[str, float] = {}  # by their last hint, the oldest first
        # A storage-dir with a final slash makes paths with two: how the switch begins a path is learned from its rows.
        self._prefixes = [paths.on_switch("")]

    def add(self, file_paths: Iterable[str]) -> None:
        """Expect the rows of these recordings, named as the switch names them."""
        now = time.monotonic()
        for file_path in file_paths:
            if len(file_path) <= _LONGEST and file_path.isprintable():
                self._hinted.pop(file_path, None)
                self._hinted[file_path] = now
        while len(self._hinted) > _MOST:
            del self._hinted[next(iter(self._hinted))]

    def add_local(self, relatives: Iterable[str]) -> None:
        """Expect the rows of these recordings, named below the recordings folder."""
        self.add(prefix + relative for relative in relatives for prefix in self._prefixes)

    def expected(self) -> list[str]:
        """The recordings to look up now."""
        since = time.monotonic() - self._open_for
        while self._hinted and next(iter(self._hinted.values())) < since:
            del self._hinted[next(iter(self._hinted))]
        return list(self._hinted)

    def met(self, rows: Iterable[MessageRow]) -> None:
        """These rows are recorded."""
        for row in rows:
            self._hinted.pop(row.file_path, None)
            if self._hinted and (relative := self._paths.relative(row.file_path)) is not None:
                for prefix in self._prefixes:
                    self._hinted.pop(prefix + relative, None)
            self._learn(row.file_path)

    def _learn(self, file_path: str) -> None:
        if any(file_path.startswith(prefix) and not file_path.startswith(prefix + "/") for prefix in self._prefixes):
            return
        relative = self._paths.relative(file_path)
        if relative is not None and file_path.endswith("/" + relative) and len(self._prefixes) < _MOST_PREFIXES:
            self._prefixes.append(file_path.removesuffix(relative))
