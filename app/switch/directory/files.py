"""The switch's static directory: one file a mailbox, written atomically, then ``reloadxml``, then read back."""

import asyncio
import hmac
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

import structlog

from app.addressing import Extension, MailboxAddress
from app.errors import Invalid
from app.switch import commands
from app.switch.directory import disk
from app.switch.directory.marks import LONGEST_FILE, PROBE, Claim, Laid, Owner, look_at, read_file, stamp_of, theirs
from app.switch.directory.model import DirectoryRefused, DirectoryUser
from app.switch.directory.readback import proven
from app.switch.directory.reload import Reloader
from app.switch.directory.xml import Format, parameters, render
from app.switch.esl.event_socket import EventSocket

log = structlog.get_logger(__name__)

_OURS = re.compile(r"voicemail-(?P<extension>.+)\.xml")
_LEFT_OVER = re.compile(r"\.voicemail-.+\.xml\.[0-9a-f]{16}\.tmp")
_FILES_AT_ONCE = 8  # threads; a disk brings several files down at a time
_LEFT_OVER_AFTER = 60.0  # seconds; a younger one may be another copy's, at work
_NO_CLAIM = Claim()
_NO_CLAIMS: Mapping[Extension, Claim] = MappingProxyType({})
WAYS_OUT = (
    "correct VOICEMAIL_DATABASE_URL, VOICEMAIL_DOMAIN or VOICEMAIL_DIRECTORY_PATH, "
    "or take the files' mailboxes into this database with `voicemail mailbox adopt`"
)


class FilesDirectory:
    """A folder whose ``*.xml`` the switch includes. Only files named ``voicemail-….xml`` with our mark are this service's."""

    def __init__(
        self,
        folder: Path,
        style: Format,
        switch: EventSocket,
        owner: Owner,
        *,
        reloader: Reloader | None = None,
        root: Path | None = None,
    ) -> None:
        """``style``: ``users`` for whole ``<user>`` elements, ``fragments`` for lines that an operator's user files include.

        ``reloader``: one that is shared with other folders. ``root``: what is missing of ``folder`` below it is made.
        """
        self._folder = folder
        self._root = root
        self._style: Format = style
        self._owner = owner
        self._looked: dict[Extension, Laid] = {}
        self._switch = switch
        self._reloader = reloader or Reloader(switch)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    async def put(self, user: DirectoryUser) -> None:
        """Write the mailbox's file, have it read and check what the switch answers; see ``Directory``."""
        await self.write(user)
        await self.confirm(user)

    async def remove(self, address: MailboxAddress) -> None:
        """Remove the mailbox's file and have the switch notice; see ``Directory``."""
        await self.erase(address)
        await self.confirm_gone(address)

    async def write(self, user: DirectoryUser, claim: Claim = _NO_CLAIM) -> None:
        """Write the mailbox's file if it is not there with this content already, and no other's file is in its place."""
        path = self._path(user.address.extension)
        try:
            await asyncio.to_thread(self._there)
            await asyncio.to_thread(self._write, path, render(user, self._style, self._owner), claim)
        except OSError as error:
            raise DirectoryRefused(f"{path} cannot be written: {error.strerror}") from error

    async def erase(self, address: MailboxAddress, claim: Claim = _NO_CLAIM) -> None:
        """Remove the mailbox's file, unless it is another's."""
        path = self._path(address.extension)
        try:
            await asyncio.to_thread(self._erase, path, claim)
        except OSError as error:
            raise DirectoryRefused(f"{path} cannot be removed: {error.strerror}") from error

    async def lay_down(
        self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress], claims: Mapping[Extension, Claim] = _NO_CLAIMS
    ) -> dict[Extension, DirectoryRefused]:
        """``write`` and ``erase`` for many: several files at a time, and the folder is brought to the disk once."""
        return await asyncio.to_thread(self._lay_down, users, gone, claims)

    async def renew(self) -> None:
        """Have the switch read its files."""
        await self._reloader.reload()
        # A user that is marked as cacheable, which an operator's own may be, outlives a reload.
        await self._switch.command(commands.xml_flush_cache())

    async def check(self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress]) -> dict[Extension, DirectoryRefused]:
        """Compare what the switch answers for many mailboxes; those that it does not have as they should be, and why."""
        well = await proven(self._switch, users)
        refused: dict[Extension, DirectoryRefused] = {}
        for user in users:
            if user.address.extension not in well:
                try:
                    await self._compare(user)
                except DirectoryRefused as error:
                    refused[user.address.extension] = error
        await asyncio.gather(*(self._look_after(address) for address in gone))
        return refused

    async def confirm(self, user: DirectoryUser) -> None:
        """Have the switch read its files, and compare what it answers for this mailbox."""
        await self._renew(user.address)
        await self._compare(user)

    async def _compare(self, user: DirectoryUser) -> None:
        if not await self._answers(user.address, "attr", "id", user.address.extension):
            raise DirectoryRefused(await self._unknown(user.address))
        wrong = [name for name, value in parameters(user) if not await self._answers(user.address, "param", name, value)]
        if wrong:
            raise DirectoryRefused(self._another(user.address, wrong))

    async def confirm_gone(self, address: MailboxAddress) -> None:
        """Have the switch read its files. A user that is still there then is defined by somebody else, and stays."""
        await self._renew(address)
        await self._look_after(address)

    async def _look_after(self, address: MailboxAddress) -> None:
        if self._style == "users" and (await self._switch.command(commands.user_exists(address))).value == "true":
            log.warning("directory_user_defined_elsewhere", extension=address.extension, domain=address.domain)

    async def look(self) -> Mapping[Extension, Laid]:
        """The files that lie here by extension; only what changed since the last look is read.

        What killed writers left half-way is removed on the way.
        """
        try:
            self._looked = await asyncio.to_thread(self._look)
        except OSError as error:
            raise DirectoryRefused(f"{self._folder} cannot be read: {error.strerror}") from error
        return self._looked

    async def content(self, extension: Extension) -> tuple[Laid, bytes] | None:
        """One file, whoever's it is. Raises as ``look`` does, and for a file that is longer than any of ours."""
        path = self._path(extension)
        try:
            found = await asyncio.to_thread(read_file, path, LONGEST_FILE + 1)
        except OSError as error:
            raise DirectoryRefused(f"{path.name} cannot be read: {error.strerror}") from error
        if found and len(found[1]) > LONGEST_FILE:
            raise DirectoryRefused(f"{path.name} is longer than {LONGEST_FILE} bytes")
        return found

    async def differing(self, users: Sequence[DirectoryUser]) -> frozenset[Extension]:
        """Those whose file is missing or has another content."""
        return await asyncio.to_thread(
            lambda: frozenset(
                user.address.extension
                for user in users
                if _content(self._path(user.address.extension)) != render(user, self._style, self._owner)
            )
        )

    async def ready(self) -> None:
        """Write, fsync and remove a file in the folder. Raises ``DirectoryRefused`` and says why that cannot be done."""
        try:
            if not await asyncio.to_thread(self._there):
                raise DirectoryRefused(f"{self._folder} is not a folder")
            await asyncio.to_thread(disk.probe, self._folder)
        except OSError as error:
            raise DirectoryRefused(f"{self._folder} cannot be written: {error.strerror}") from error

    def _look(self) -> dict[Extension, Laid]:
        self._there()
        return dict(_look(self._folder, self._looked))

    def _there(self) -> bool:
        """Whether the folder is there; one of a domain is made. Raises ``OSError`` if that cannot be done."""
        if self._root is not None:
            disk.make_folder(self._folder, self._root)
        return self._folder.is_dir()

    def _write(self, path: Path, content: bytes, claim: Claim, *, sync: bool = True) -> None:
        found = read_file(path)
        if found is None or found[0].blank:
            # Not a file more into a folder that is another's: the switch would have a mailbox that nobody looks after.
            if self._owner.installation != PROBE and self._theirs():
                raise DirectoryRefused(f"{self._folder} holds the mailboxes of another installation; {WAYS_OUT}")
        elif not self._may_replace(found[0], claim):
            raise DirectoryRefused(f"{path.name} {whose(found[0], self._owner)}, and is left alone; {WAYS_OUT}")
        elif found[1] == content:
            return
        disk.replace(path, content, sync=sync)

    def _may_replace(self, laid: Laid, claim: Claim) -> bool:
        if not laid.foreign_to(self._owner) or claim.allows(laid):
            return True
        # Somebody edited our file, and the mark went with it.
        return laid.owner is None and claim.written and not self._theirs()

    def _theirs(self) -> bool:
        # In a folder of ours the first file already tells.
        return theirs((laid for _, laid in _look(self._folder, self._looked)), self._owner)

    def _erase(self, path: Path, claim: Claim, *, sync: bool = True) -> None:
        laid = look_at(path)
        if laid is None:
            return
        if laid.foreign_to(self._owner) and not claim.allows(laid):
            log.warning("directory_file_of_others_left", file=path.name, detail=whose(laid, self._owner))
            return
        disk.remove(path, sync=sync)

    def _path(self, extension: Extension) -> Path:
        return self._folder / file_name(extension)

    def _lay_down(
        self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress], claims: Mapping[Extension, Claim]
    ) -> dict[Extension, DirectoryRefused]:
        refused: dict[Extension, DirectoryRefused] = {}

        def write(user: DirectoryUser) -> None:
            extension = user.address.extension
            content = render(user, self._style, self._owner)
            self._write(self._path(extension), content, claims.get(extension, _NO_CLAIM), sync=False)

        def erase(address: MailboxAddress) -> None:
            self._erase(self._path(address.extension), claims.get(address.extension, _NO_CLAIM), sync=False)

        with suppress(OSError):
            self._there()  # if it cannot be made, each file says so
        with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
            works = {user.address.extension: threads.submit(write, user) for user in users}
            works |= {address.extension: threads.submit(erase, address) for address in gone}
            for extension, work in works.items():
                error = work.exception()
                if isinstance(error, DirectoryRefused):
                    refused[extension] = error
                elif isinstance(error, OSError):
                    refused[extension] = DirectoryRefused(f"{self._path(extension)} cannot be written: {error.strerror}")
                elif error is not None:
                    raise error
        try:
            disk.sync_folder(self._folder)
        except OSError as error:
            refusal = DirectoryRefused(f"{self._folder} cannot be written: {error.strerror}")
            return {extension: refused.get(extension, refusal) for extension in works}
        return refused

    async def _renew(self, address: MailboxAddress) -> None:
        await self._reloader.reload()
        # A user that is marked as cacheable, which an operator's own may be, outlives a reload.
        await self._switch.command(commands.xml_flush_cache(address))

    async def _answers(self, address: MailboxAddress, kind: commands.DirectoryField, name: str, expected: str) -> bool:
        reply = await self._switch.command(commands.user_data(address, kind, name))
        # Compared as it came: a PIN may look like an error.
        return hmac.compare_digest(reply.text.encode(), expected.encode()) or (not expected and reply.empty)

    async def _unknown(self, address: MailboxAddress) -> str:
        if (await self._switch.command(commands.user_exists(address))).value == "true":
            return self._another(address, ["id"])
        if self._style == "fragments":
            return f"the switch has no user {address} whose <params> could include {file_name(address.extension)}"
        return (
            f"the switch does not know {address}: is {self._folder}/*.xml included inside its <users>, "
            "and may the switch's own user read the files?"
        )

    def _another(self, address: MailboxAddress, names: Sequence[str]) -> str:
        which = ", ".join(names)
        if self._style == "fragments":
            return f"the switch answers {address} with another {which}: does this user include {file_name(address.extension)}?"
        return f"the switch answers from another definition of {address}: {which} differ from this mailbox"


def file_name(extension: Extension) -> str:
    """The name of a mailbox's file. ``*`` and ``#`` are written %2A and %23: the switch includes by a shell pattern."""
    return f"voicemail-{quote(extension, safe='')}.xml"


def whose(laid: Laid, owner: Owner) -> str:
    """Why a file is not ``owner``'s, as what follows the file's name in a sentence."""
    if laid.owner is None:
        return "has no mark of this installation"
    if laid.owner.installation != owner.installation:
        return f"belongs to another installation, {laid.owner.installation[:8]}…, with domain {laid.owner.domain[:100]}"
    return f"belongs to domain {laid.owner.domain[:100]}, and VOICEMAIL_DOMAIN is {owner.domain}"


def _content(path: Path) -> bytes | None:
    """What is in the file; None if there is none that could be read, and for a link, which is never this service's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError:
        return None


def _look(folder: Path, before: Mapping[Extension, Laid]) -> Iterator[tuple[Extension, Laid]]:
    """What lies in the folder, one after the other: whoever needs only the first need not wait for the rest."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _LEFT_OVER.fullmatch(entry.name):
                _remove_left_over(entry)
            elif (match := _OURS.fullmatch(entry.name)) and (extension := _extension(match["extension"], entry.name)):
                try:
                    laid = _laid(entry, before.get(extension))
                except FileNotFoundError:
                    continue
                if laid.owner is not None and laid.owner.installation == PROBE:
                    _remove_left_over(entry)
                else:
                    yield extension, laid


def _laid(entry: "os.DirEntry[str]", before: Laid | None) -> Laid:
    stamp = stamp_of(entry.stat(follow_symlinks=False))
    if before is not None and before.stamp == stamp:
        return before
    try:
        laid = look_at(Path(entry.path))
    except PermissionError:
        return Laid(stamp, None)
    if laid is None:
        raise FileNotFoundError(entry.path)
    return laid


def _remove_left_over(entry: "os.DirEntry[str]") -> None:
    with suppress(FileNotFoundError):
        if time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_OVER_AFTER:
            os.unlink(entry.path)


def _extension(encoded: str, name: str) -> Extension | None:
    """The extension whose file has this name; None for a name that this service would not give."""
    try:
        extension = Extension.parse(unquote(encoded))
    except Invalid:
        return None
    return extension if file_name(extension) == name else None
