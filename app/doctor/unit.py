"""The systemd unit of the installed service: which user it runs as, and which folders that user may write there.

Unit files are read as systemd reads them, because ``systemctl`` answers only where systemd runs.
"""

from dataclasses import dataclass
from pathlib import Path

UNIT = "voicemail.service"
# Where systemd looks, the first that has the unit wins; drop-ins are taken from all of them.
FOLDERS = tuple(
    Path(folder) for folder in ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
)
_STATE = Path("/var/lib")


@dataclass(frozen=True, slots=True)
class Unit:
    """What the unit says of rights."""

    path: Path
    user: str
    group: str  # empty: the user's own
    writable: tuple[Path, ...] | None  # None: everything that the user may write

    def lets_write(self, path: Path) -> bool:
        """Whether the unit leaves ``path`` writable; the file system's own rights are another question."""
        return self.writable is None or any(root == path or root in path.parents for root in self.writable)


def read_unit(folders: tuple[Path, ...] = FOLDERS) -> Unit | None:
    """The installed unit with its drop-ins; ``None`` if there is none."""
    main = next((folder / UNIT for folder in folders if (folder / UNIT).is_file()), None)
    if main is None:
        return None
    drop_ins: dict[str, Path] = {}
    for folder in reversed(folders):
        drop_ins |= {path.name: path for path in (folder / f"{UNIT}.d").glob("*.conf")}
    values: dict[str, list[str]] = {}
    for path in (main, *(drop_ins[name] for name in sorted(drop_ins))):
        _read(path.read_text(errors="replace"), values)
    return Unit(main, _last(values, "User") or "root", _last(values, "Group"), _writable(values))


def _read(text: str, values: dict[str, list[str]]) -> None:
    """Add the settings of ``[Service]``; an empty one forgets those before it, as in systemd."""
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and line[0] not in "#;":
            name, value = (part.strip() for part in line.split("=", 1))
            if value:
                values.setdefault(name, []).append(value)
            else:
                values.pop(name, None)


def _last(values: dict[str, list[str]], name: str) -> str:
    return values.get(name, [""])[-1]


def _writable(values: dict[str, list[str]]) -> tuple[Path, ...] | None:
    if _last(values, "ProtectSystem") != "strict":
        return None
    paths = [Path(path.lstrip("-+")) for value in values.get("ReadWritePaths", []) for path in value.split()]
    return (*paths, *(_STATE / name for value in values.get("StateDirectory", []) for name in value.split()))
