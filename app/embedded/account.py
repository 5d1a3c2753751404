"""The account that runs the embedded server, because PostgreSQL refuses to run as root."""

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import DatabaseUnavailable

NOBODY = 65534
# Without this bit access(2), with which initdb looks for its programs, forgets the right that the process keeps.
_KEEP_CHECKS = "--securebits=+no_setuid_fixup"


@dataclass(frozen=True, slots=True)
class Account:
    """How to start a program as the cluster's owner: under this process's user, or as another user if this process is root."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    drop: bool = False

    def popen(self) -> dict[str, Any]:
        """Keyword arguments for ``subprocess`` that start a program under this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {}

    def give(self, path: Path) -> None:
        """Make the account the owner of a file or folder."""
        if (path.stat().st_uid, path.stat().st_gid) != (self.uid, self.gid):
            os.chown(path, self.uid, self.gid)


def choose_account(data_dir: Path, needed: list[Path]) -> Account:
    """The account for a cluster in ``data_dir``, which exists; ``needed`` are the folders its programs must get into.

    An ordinary user runs the server. Root runs it as the folder's owner, or as ``nobody`` if root owns the folder.
    Raises ``DatabaseUnavailable`` if that account cannot get there.
    """
    owner = data_dir.stat()
    if os.geteuid() != 0:
        if owner.st_uid != os.geteuid():
            raise DatabaseUnavailable(
                f"{data_dir} belongs to another user (uid {owner.st_uid}): start as that user or as root, "
                "or set VOICEMAIL_DATA_DIR to a folder of your own"
            )
        return Account(os.geteuid(), os.getegid())
    uid, gid = (owner.st_uid, owner.st_gid) if owner.st_uid != 0 else (NOBODY, NOBODY)
    closed = [path for path in needed if not _can_enter(path, uid, gid)]
    if not closed:
        return Account(uid, gid, drop=True)
    # A checkout or a data folder under /root: the server keeps the one right to pass folders it could not enter, and no
    # permission of anybody's folder is changed. SQL cannot use it: the service's role is no superuser.
    if setpriv := shutil.which("setpriv"):
        capability = "+dac_read_search" if _may_keep("dac_read_search") else "+dac_override"
        keep = [f"--{name}={which}" for name in ("inh-caps", "ambient-caps", "bounding-set") for which in (f"-all,{capability}",)]
        return Account(uid, gid, prefix=(setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", _KEEP_CHECKS, *keep))
    raise DatabaseUnavailable(
        f"PostgreSQL must not run as root, and uid {uid} cannot enter {closed[0]}: start as an ordinary user, "
        "or keep the checkout and VOICEMAIL_DATA_DIR outside folders that only root can enter"
    )


def _can_enter(path: Path, uid: int, gid: int) -> bool:
    return all(_searchable(folder, uid, gid) for folder in (path, *path.parents))


def _searchable(folder: Path, uid: int, gid: int) -> bool:
    found = folder.stat()
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


# Linux capability numbers, from capabilities(7).
_NUMBERS = {"dac_override": 1, "dac_read_search": 2}


def _may_keep(capability: str) -> bool:
    # Containers usually run without CAP_DAC_READ_SEARCH and with CAP_DAC_OVERRIDE.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> _NUMBERS[capability] & 1)
    return False
