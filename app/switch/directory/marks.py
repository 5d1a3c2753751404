"""The owner of a mailbox file: a comment in each file names the installation that wrote it and the domain it was written for.

The database's own id is the installation's. A file without the comment is nobody's that is known here, and nobody's file is
replaced or removed without a claim to it.
"""

import html
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.switch.directory.escaping import escape

# The doctor marks its probe so: whoever finds an old one may remove it.
PROBE = "0" * 32
LONGEST_FILE = 64 * 1024
_HEAD = 2048  # bytes; the mark is in the first lines, and no domain is longer
_MARK = re.compile(rb"^[ \t]*<!-- voicemail installation=([0-9a-f]{32}) domain=([0-9A-Za-z&#;._]{1,1300}) -->[ \t\r]*$", re.M)


@dataclass(frozen=True, slots=True)
class Owner:
    """An installation, by its id of 32 hexadecimal digits, and the domain that it writes mailboxes for."""

    installation: str
    domain: str


@dataclass(frozen=True, slots=True)
class Laid:
    """A file that lies at a mailbox's place."""

    stamp: str  # another one after every change of the file
    owner: Owner | None  # None: it has no mark
    blank: bool = False  # it holds nothing, or is no regular file: there is nothing in it to lose

    def foreign_to(self, owner: Owner) -> bool:
        """Whether it may be somebody else's than ``owner``'s."""
        return not self.blank and self.owner != owner


@dataclass(frozen=True, slots=True)
class Claim:
    """What the database knows that allows replacing a file which does not have our mark."""

    written: bool = False  # this installation wrote the file once: without any mark it was edited since
    adopted: str = ""  # the stamp of the file that an operator let this installation adopt

    def allows(self, laid: Laid) -> bool:
        """Whether the file may be replaced although it has not our mark."""
        return bool(self.adopted) and laid.stamp == self.adopted


def mark(owner: Owner) -> str:
    """The comment. No value in it holds a hyphen: two of them would end it, and the switch obeys words that hold some."""
    return f"<!-- voicemail installation={owner.installation} domain={escape(owner.domain)} -->"


def owner_of(content: bytes) -> Owner | None:
    """Who is named in the first lines of a file."""
    found = _MARK.search(content[:_HEAD])
    return Owner(found[1].decode(), html.unescape(found[2].decode())) if found else None


def theirs(files: Iterable[Laid], owner: Owner) -> bool:
    """Whether a folder with these files is somebody else's: it holds files of others, and none of ``owner``'s."""
    foreign = False
    for laid in files:
        if laid.owner == owner:
            return False
        foreign = foreign or laid.foreign_to(owner)
    return foreign


def stamp_of(status: os.stat_result) -> str:
    """What changes with every change of a file. Not its content: a digest would tell a PIN to who can guess."""
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def read_file(path: Path, limit: int = LONGEST_FILE) -> tuple[Laid, bytes] | None:
    """What lies at ``path`` and its first ``limit`` bytes; None if there is nothing. Raises ``OSError``."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return Laid(stamp_of(status), None, blank=True), b""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        content = file.read(limit)
    blank = status.st_size <= limit and not content.strip()
    return Laid(stamp_of(status), owner_of(content), blank), content


def look_at(path: Path) -> Laid | None:
    """The same by the file's first lines only."""
    found = read_file(path, _HEAD)
    return found and found[0]
