"""The switch's static directory: one file a mailbox, written atomically, then ``reloadxml``, then read back."""

import asyncio
import errno
import hmac
import os
import re
import secrets
import time
from collections.abc import Sequence
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
from app.switch.reload import Reloader

log = structlog.get_logger(__name__)

_OURS = re.compile(r"voicemail-(?P<extension>.+)\.xml")
_LEFT_OVER = re.compile(r"\.voicemail-.+\.xml\.[0-9a-f]{16}\.tmp")
_LEFT_OVER_AFTER = 60.0  # seconds; a younger one may be another copy's, at work
# One name, so that the next probe removes what a killed one left. It does not match *.xml, so the switch never reads it.
_PROBE = ".voicemail-probe.tmp"
_PROBE_TRIES = 10
_PROBE_SIZE = 4096  # bytes; less may fit where a full disk still has room, as in an inode
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

    async def confirm(self, user: DirectoryUser) -> None:
        """Have the switch read its files, and compare what it answers for this mailbox."""
        await self._renew(user.address)
        if not await self._answers(user.address, "attr", "id", user.address.extension):
            raise DirectoryRefused(await self._unknown(user.address))
        wrong = [name for name, value in parameters(user) if not await self._answers(user.address, "param", name, value)]
        if wrong:
            raise DirectoryRefused(self._another(user.address, wrong))

    async def confirm_gone(self, address: MailboxAddress) -> None:
        """Have the switch read its files. A user that is still there then is defined by somebody else, and stays."""
        await self._renew(address)
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
        """Write, fsync and remove a file in the folder. Raises ``DirectoryRefused`` and says why that cannot be done."""
        if not await asyncio.to_thread(self._folder.is_dir):
            raise DirectoryRefused(f"{self._folder} is not a folder")
        try:
            await asyncio.to_thread(_probe, self._folder)
        except OSError as error:
            raise DirectoryRefused(f"{self._folder} cannot be written: {error.strerror}") from error

    def _path(self, extension: Extension) -> Path:
        return self._folder / file_name(extension)

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


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a power cut, sees the old one or the new one whole."""
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
    _sync_folder(path.parent)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
        _sync_folder(path.parent)


def _probe(folder: Path) -> None:
    """Prove that a mailbox could be written now: the rights, the file system and the space. Raises ``OSError``."""
    with os.scandir(folder):
        pass  # reading the folder is a right of its own
    descriptor = _make(folder / _PROBE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(_PROBE_SIZE))
            file.flush()
            os.fsync(file.fileno())
    finally:
        (folder / _PROBE).unlink(missing_ok=True)


def _make(path: Path) -> int:
    """A new empty file at ``path``. Copies of the service that share the folder may remove each other's: try again then."""
    for _ in range(_PROBE_TRIES):
        path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    raise FileExistsError(errno.EEXIST, f"{path.name} is made again and again", str(path))


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
