"""Looks at the directory folders: files that were edited or removed are written again, and foreign files are reported.

A look costs a ``stat`` of each file and the names in the table; only a file that changed since it was last found right is read.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice

import structlog

from app.addressing import Domain, Extension
from app.database.pool import Pool
from app.errors import DatabaseFailed
from app.jobs.loop import Loop
from app.jobs.retries import Retries
from app.mailboxes import store
from app.mailboxes.directory import installation, ownership
from app.mailboxes.directory.ownership import Folder
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.switch.directory.domains import DomainFolders
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner
from app.switch.directory.model import DirectoryRefused

log = structlog.get_logger(__name__)

EVERY = 30.0  # seconds between two looks: an edited file is corrected within a minute
EVERY_IN_TROUBLE = 10.0  # seconds, so that what an operator did is seen soon
_RETRIES = Retries(first=2.0, longest=2.0)
_AT_ONCE = 1000
_PROBES = 20  # folders of further domains that one check writes into: it has two seconds


class DirectoryWatch:
    """Looks at the folders of all domains, in the process that leads; what it finds stands in the database."""

    def __init__(self, *, pool: Pool, folders: DomainFolders, publisher: DirectoryPublisher) -> None:
        self._pool = pool
        self._folders = folders
        self._publisher = publisher
        self._looks: dict[Domain, _FolderLook] = {}
        self._unwritable: set[Domain] = set()
        self._probed = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        self._looks.clear()  # the table may be another one since this process last led
        await Loop("directory_watch", self.look, every=self._pause, retries=_RETRIES).run()

    def _pause(self) -> float:
        return EVERY_IN_TROUBLE if any(look.trouble for look in self._looks.values()) else EVERY

    async def look(self) -> None:
        """Look once at every folder: have what differs written again, and note what is wrong."""
        domains = await self._domains()
        self._looks = {domain: self._looks.get(domain) or self._new(domain) for domain in domains}
        for look in self._looks.values():
            await look.look()

    async def check(self) -> None:
        """Raise ``DirectoryRefused`` if a folder cannot be written, or the last look at one found something wrong."""
        default = self._folders.default
        await self._folders.of(default).ready()  # also while the database is away
        try:
            domains = await self._domains()
            async with self._pool.acquire() as connection:
                troubles = {domain: await installation.directory_trouble(connection, domain) for domain in domains}
        except DatabaseFailed:
            return  # the database's own check reports it
        for domain in self._turn([domain for domain in domains if domain != default]):
            self._unwritable.add(domain)
            await self._folders.of(domain).ready()
            self._unwritable.discard(domain)
        for domain, trouble in troubles.items():
            if trouble is None and domain == default:
                raise DirectoryRefused(f"{self._folders.of(domain).folder} was not looked at yet")
            if trouble:  # a domain that was just made is looked at soon
                raise DirectoryRefused(trouble)

    def _turn(self, domains: Sequence[Domain]) -> list[Domain]:
        """The folders that one check writes into: those that could not be written last, and some of the others by turns."""
        self._unwritable &= set(domains)
        start = self._probed % max(1, len(domains))
        self._probed = start + _PROBES
        some = [*domains[start:], *domains[:start]][:_PROBES]
        return list(dict.fromkeys([*sorted(self._unwritable), *some]))

    def _new(self, domain: Domain) -> "_FolderLook":
        return _FolderLook(self._pool, self._folders.owner(domain), self._folders.of(domain), self._publisher)

    async def _domains(self) -> list[Domain]:
        async with self._pool.acquire() as connection:
            return [domain for domain in await installation.domains(connection) if self._folders.serves(domain)]


class _FolderLook:
    """The folder of one domain, and what was found in it at the last look."""

    def __init__(self, pool: Pool, owner: Owner, directory: FilesDirectory, publisher: DirectoryPublisher) -> None:
        self._pool = pool
        self._owner = owner
        self._domain = Domain(owner.domain)
        self._directory = directory
        self._publisher = publisher
        self._right: dict[Extension, str] = {}  # the stamps of the files that were found to be as the table says
        self._unreadable: set[Extension] = set()
        self._told: str | None = None

    @property
    def trouble(self) -> bool:
        """Whether something was wrong at the last look."""
        return bool(self._told)

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
            await installation.note_directory(connection, self._domain, trouble)
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
            log.info(
                "directory_files_written_again", domain=self._domain, entries=len(differing), extensions=sorted(differing)[:10]
            )

    async def _differing(self, extensions: list[Extension]) -> frozenset[Extension]:
        """Those whose file is missing or is not as the table says; the switch is to learn of them anew."""
        async with self._pool.acquire() as connection:
            mailboxes = list((await store.find_many(connection, self._domain, extensions)).values())
        users = await asyncio.to_thread(self._publisher.readable, mailboxes)
        unreadable = {mailbox.address.extension for mailbox in mailboxes} - {user.address.extension for user in users}
        for extension in sorted(unreadable - self._unreadable):
            log.error("pin_unreadable", extension=extension, domain=self._domain)
        self._unreadable |= unreadable
        wrong = await self._directory.differing(users)
        if wrong:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._publisher.announce(connection, self._domain, sorted(wrong))
        return wrong
