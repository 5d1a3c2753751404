"""The switch's static directory: one file a mailbox, written atomically, then ``reloadxml``, then read back."""

import asyncio
import hmac
import os
import re
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import structlog

from app.addressing import Extension, MailboxAddress
from app.errors import Invalid
from app.switch import commands
from app.switch.directory import DirectoryRefused, DirectoryUser
from app.switch.directory_xml import Format, parameters, render
from app.switch.esl import EventSocket
from app.switch.readback import proven
from app.switch.reload import Reloader

log = structlog.get_logger(__name__)

_OURS = re.compile(r"voicemail-(?P<extension>.+)\.xml")
_LEFT_OVER = re.compile(r"\.voicemail-.+\.xml\.[0-9a-f]{16}\.tmp")
_FILES_AT_ONCE = 8  # threads; a disk brings several files down at a time
_LEFT_OVER_AFTER = 60.0  # seconds; a younger one may be another copy's, at work
# The switch runs as another user and must read what holds PINs, and nobody else may: the folder's group is the switch's, and
# with its setgid bit (chmod 2750) the files have that group too.
_MODE = 0o640


class FilesDirectory:
    """A folder whose ``*.xml`` the switch includes. Only files named ``voicemail-….xml`` are this service's."""

    def __init__(self, folder: Path, style: Format, switch: EventSocket) -> None:
        """``style``: ``users`` for whole ``<user>`` elements, ``fragments`` for lines that an operator's user files include."""
        self._folder = folder
        self._style: Format = style
        self._switch = switch
        self._reloader = Reloader(switch)

    async def put(self, user: DirectoryUser) -> None:
        """Write the mailbox's file, have it read and check what the switch answers; see ``Directory``."""
        await self.write(user)
        await self.confirm(user)

    async def remove(self, address: MailboxAddress) -> None:
        """Remove the mailbox's file and have the switch notice; see ``Directory``."""
        await self.erase(address)
        await self.confirm_gone(address)

    async def write(self, user: DirectoryUser) -> None:
        """Write the mailbox's file where it is not there with this content already."""
        path = self._path(user.address.extension)
        try:
            await asyncio.to_thread(_replace, path, render(user, self._style))
        except OSError as error:
            raise DirectoryRefused(f"{path} cannot be written: {error.strerror}") from error

    async def erase(self, address: MailboxAddress) -> None:
        """Remove the mailbox's file."""
        path = self._path(address.extension)
        try:
            await asyncio.to_thread(_remove, path)
        except OSError as error:
            raise DirectoryRefused(f"{path} cannot be removed: {error.strerror}") from error

    async def lay_down(self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress]) -> dict[Extension, DirectoryRefused]:
        """``write`` and ``erase`` for many: several files at a time, and the folder is brought to the disk once."""
        return await asyncio.to_thread(self._lay_down, users, gone)

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

    async def found(self) -> frozenset[Extension]:
        """The extensions that have a file here. Files of writers that were killed half-way are removed on the way."""
        try:
            return await asyncio.to_thread(_found, self._folder)
        except OSError as error:
            raise DirectoryRefused(f"{self._folder} cannot be read: {error.strerror}") from error

    async def differing(self, users: Sequence[DirectoryUser]) -> frozenset[Extension]:
        """Those whose file is missing or has another content."""
        return await asyncio.to_thread(
            lambda: frozenset(
                user.address.extension
                for user in users
                if _content(self._path(user.address.extension)) != render(user, self._style)
            )
        )

    async def ready(self) -> None:
        """Raise ``DirectoryRefused`` where the folder is not there or may not be written."""
        if not await asyncio.to_thread(self._folder.is_dir):
            raise DirectoryRefused(f"{self._folder} is not a folder")
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise DirectoryRefused(f"{self._folder} may not be written by this service")

    def _path(self, extension: Extension) -> Path:
        return self._folder / file_name(extension)

    def _lay_down(self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress]) -> dict[Extension, DirectoryRefused]:
        refused: dict[Extension, DirectoryRefused] = {}

        def write(user: DirectoryUser) -> None:
            _replace(self._path(user.address.extension), render(user, self._style), sync=False)

        def erase(address: MailboxAddress) -> None:
            _remove(self._path(address.extension), sync=False)

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
            _sync_folder(self._folder)
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


def _replace(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file so that a reader, or a power cut, sees the old one or the new one whole. ``sync``: the folder, too."""
    if _content(path) == content:
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)


def _remove(path: Path, *, sync: bool = True) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
        if sync:
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _content(path: Path) -> bytes | None:
    """What is in the file; None where there is none that could be read, and for a link, which is never this service's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError:
        return None


def _found(folder: Path) -> frozenset[Extension]:
    found: set[Extension] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if _LEFT_OVER.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_OVER_AFTER:
                        os.unlink(entry.path)
            elif (match := _OURS.fullmatch(entry.name)) and (extension := _extension(match["extension"], entry.name)):
                found.add(extension)
    return frozenset(found)


def _extension(encoded: str, name: str) -> Extension | None:
    """The extension whose file has this name; None for a name that this service would not give."""
    try:
        extension = Extension.parse(unquote(encoded))
    except Invalid:
        return None
    return extension if file_name(extension) == name else None
