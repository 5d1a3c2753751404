"""Makes the waiting entries due when the switch is back, and at the start."""

from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.mailboxes.directory.publisher import DirectoryPublisher

_RETRIES = Retries(first=2.0, longest=2.0)


class DirectoryUpkeep:
    """Runs in the process that leads."""

    def __init__(self, publisher: DirectoryPublisher) -> None:
        self._loop = Loop("directory_upkeep", publisher.resume, every=None, retries=_RETRIES)

    def wake(self) -> None:
        """Call when the switch is back: the waiting entries are tried now."""
        self._loop.wake()

    async def run(self) -> None:
        """Look for what waits, until cancelled."""
        await self._loop.run()
