"""The state of recordings that the index does not have: on their way, or not there. Each is looked for now and then only."""

import asyncio
import time
from collections.abc import Collection, Mapping

from app.messages.model import RecordingState
from app.recordings.storage import RecordingStorage

_FRESH = 10.0  # seconds
_MOST = 20_000


class Unindexed:
    """Looks for recordings on the disk. What was found is told again for some seconds: a list asks for many at once."""

    def __init__(self, storage: RecordingStorage) -> None:
        self._storage = storage
        self._known: dict[str, tuple[RecordingState, float]] = {}

    async def states(self, file_paths: Collection[str]) -> Mapping[str, RecordingState]:
        """Whether each recording, by the switch's name, is there; without those outside the recordings folder."""
        now = time.monotonic()
        known = self._known
        file_paths = [path for path in file_paths if self._storage.paths.relative(path) is not None]
        missing = [path for path in file_paths if path not in known or known[path][1] < now]
        if missing:
            if len(known) > _MOST:
                known.clear()
            found = await asyncio.to_thread(lambda: {path: self.look(path) for path in missing})
            known.update((path, (state, now + _FRESH)) for path, state in found.items())
            return {path: known[path][0] if path in known else found[path] for path in file_paths}
        return {path: known[path][0] for path in file_paths}

    def look(self, file_path: str) -> RecordingState:
        """Whether a recording is there now. Blocks."""
        key = self._storage.paths.relative(file_path)
        return RecordingState.GROWING if key is not None and self._storage.exists(key) else RecordingState.MISSING
