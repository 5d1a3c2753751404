"""Looks at the directory folder: files that were edited or removed are written again, and files of others are told.

A look costs a ``stat`` of each file and the names in the table; only a file that changed since it was last found right is read.
"""

import asyncio
from itertools import islice

import structlog

from app.addressing import Extension
from app.database.pool import Pool
from app.errors import DatabaseFailed
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.mailboxes import store
from app.mailboxes.directory import installation, ownership
from app.mailboxes.directory.ownership import Folder
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner
from app.switch.directory.model import DirectoryRefused

log = structlog.get_logger(__name__)

EVERY = 30.0  # seconds between two looks: what somebody edits is mended within a minute
EVERY_IN_TROUBLE = 10.0  # seconds, so that what an operator did is seen soon
_RETRIES = Retries(first=2.0, longest=2.0)
_AT_ONCE = 1000


class DirectoryWatch:
    """Runs in the process that leads; what it finds stands in the database, for the checks of every copy."""

    def __init__(self, *, pool: Pool, owner: Owner, directory: FilesDirectory, publisher: DirectoryPublisher) -> None:
        self._pool = pool
        self._owner = owner
        self._directory = directory
        self._publisher = publisher
        self._right: dict[Extension, str] = {}  # the stamps of the files that were found to be as the table says
        self._unreadable: set[Extension] = set()
        self._told: str | None = None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        self._right.clear()  # the table may be another one since this process last led
        self._told = None
        await Loop("directory_watch", self.look, every=self._pause, retries=_RETRIES).run()

    def _pause(self) -> float:
        return EVERY_IN_TROUBLE if self._told else EVERY

    async def look(self) -> None:
        """Look once: have what differs written again, and note what is wrong."""
        try:
            # In this order: what is laid down was in the table before.
            files = await self._directory.look()
        except DirectoryRefused as error:
            await self._tell(error.detail)
            return
        folder = await self._steady(await ownership.compare(self._pool, self._owner, files))
        await self._tell(ownership.trouble(folder, self._directory.folder, self._owner))
        if not folder.theirs:
            await self._mend(folder)

    async def check(self) -> None:
        """Raise ``DirectoryRefused`` where the last look of the process that leads found something wrong."""
        try:
            async with self._pool.acquire() as connection:
                trouble = await installation.directory_trouble(connection, self._owner.domain)
        except DatabaseFailed:
            return  # the database's own check tells it
        if trouble is None:
            raise DirectoryRefused(f"{self._directory.folder} was not looked at yet")
        if trouble:
            raise DirectoryRefused(trouble)

    async def _steady(self, folder: Folder) -> Folder:
        """Without the strays that were only removed between the look at the folder and the one at the table."""
        if not folder.strays:
            return folder
        again = await self._directory.look()
        return await ownership.compare(
            self._pool, self._owner, {name: laid for name, laid in folder.files.items() if again.get(name) == laid}
        )

    async def _tell(self, trouble: str) -> None:
        if trouble == self._told:
            return
        async with self._pool.acquire() as connection:
            await installation.note_directory(connection, self._owner.domain, trouble)
        if trouble:
            log.error("directory_not_ours", detail=trouble)
        elif self._told:
            log.info("directory_is_well")
        self._told = trouble

    async def _mend(self, folder: Folder) -> None:
        stamps = {extension: laid.stamp for extension, laid in folder.files.items()}
        suspects = iter(
            extension
            for extension, known in folder.mailboxes.items()
            if known.applied and (extension not in stamps or self._right.get(extension) != stamps[extension])
        )
        differing: list[Extension] = []
        while some := list(islice(suspects, _AT_ONCE)):
            wrong = await self._differing(some)
            differing += wrong
            self._right.update({name: stamps[name] for name in some if name in stamps and name not in wrong})
        if len(self._right) > len(folder.mailboxes):
            self._right = {name: stamp for name, stamp in self._right.items() if name in folder.mailboxes}
        if differing:
            log.info("directory_files_written_again", entries=len(differing), extensions=sorted(differing)[:10])

    async def _differing(self, extensions: list[Extension]) -> frozenset[Extension]:
        """Those whose file is missing or is not as the table says; the switch is to learn of them anew."""
        async with self._pool.acquire() as connection:
            mailboxes = list((await store.find_many(connection, self._owner.domain, extensions)).values())
        users = await asyncio.to_thread(self._publisher.readable, mailboxes)
        unreadable = {mailbox.address.extension for mailbox in mailboxes} - {user.address.extension for user in users}
        for extension in sorted(unreadable - self._unreadable):
            log.error("pin_unreadable", extension=extension)
        self._unreadable |= unreadable
        wrong = await self._directory.differing(users)
        if wrong:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._publisher.announce(connection, sorted(wrong))
        return wrong
