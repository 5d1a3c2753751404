"""The static directory as FreeSWITCH reads it: files into lines, lines into XML, XML into users."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

_VARIABLE = re.compile(r"\$\$\{([^}]*)\}")
_INCLUDE = re.compile(r'<X-PRE-PROCESS\s+cmd="include"\s+data="([^"]*)"\s*/>')
# The switch silently drops a line that holds one of these.
_DROPPED = re.compile(r"<include>|</include>|<\?", re.IGNORECASE)
_FIRST_LINE = 2  # the text is put into one element, which takes a line


class DirectoryBroken(Exception):
    """What was read is no XML; the text is what ``reloadxml`` says."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One ``<user>``."""

    id: str
    attributes: Mapping[str, str]
    params: Mapping[str, str] = field(repr=False)
    variables: Mapping[str, str]


class StaticDirectory:
    """The users of one domain, in a folder's ``*.xml``, as they were at the last successful ``load``."""

    def __init__(self, folder: Path, domain: str) -> None:
        self._folder = folder
        self._variables = {"domain": domain}
        self._users: dict[str, DirectoryEntry] = {}

    def load(self) -> None:
        """Read all of it. Raises ``DirectoryBroken``, and what was read before stays."""
        lines = [line for path in sorted(self._folder.glob("*.xml")) for line in self._lines(path)]
        try:
            root = ElementTree.fromstring("<users>\n" + "\n".join(lines) + "\n</users>")  # noqa: S314 - the sandbox's own files
        except ElementTree.ParseError as error:
            line, reason = error.position[0] - _FIRST_LINE + 1, str(error).partition(":")[0]
            raise DirectoryBroken(f"[error near line {line}]: {reason}") from error
        users: dict[str, DirectoryEntry] = {}
        for element in root.iter("user"):
            users.setdefault(element.get("id", ""), _entry(element))
        self._users = users

    def find(self, user_id: str) -> DirectoryEntry | None:
        """The user with this id: of several the first."""
        return self._users.get(user_id)

    def users(self) -> list[DirectoryEntry]:
        """All users."""
        return list(self._users.values())

    def _lines(self, path: Path) -> list[str]:
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            return []  # what cannot be read is nothing, as a fragment that is missing
        found: list[str] = []
        for line in text.splitlines():
            line = _VARIABLE.sub(lambda match: self._variables.get(match[1], ""), line)
            include = _INCLUDE.search(line)
            if include:
                for included in sorted(path.parent.glob(include[1])) if "*" in include[1] else [path.parent / include[1]]:
                    found += self._lines(included)
            elif "X-PRE-PROCESS" not in line and not _DROPPED.search(line):
                found.append(line)
        return found


class Directories:
    """The users of several domains, which are read together: if one domain's files are broken, all stay as they were."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """``folders``: of each domain, by name, as ``<domain>`` elements of the switch's configuration include them."""
        self._folders = folders
        self._domains: dict[str, StaticDirectory] = {}
        self._nobody = StaticDirectory(Path(), "")

    def load(self) -> None:
        """Read all of it. Raises ``DirectoryBroken``, and what was read before stays."""
        domains = {domain: StaticDirectory(folder, domain) for domain, folder in self._folders.items()}
        for directory in domains.values():
            directory.load()
        self._domains = domains

    def of(self, domain: str) -> StaticDirectory:
        """The users of a domain; none if the configuration has no such ``<domain>``."""
        return self._domains.get(domain, self._nobody)


def _entry(element: ElementTree.Element) -> DirectoryEntry:
    def named(kind: str) -> dict[str, str]:
        # Of several with one name the last one counts, as it does in the switch.
        return {item.get("name", ""): item.get("value", "") for item in element.iterfind(f"{kind}s/{kind}")}

    return DirectoryEntry(element.get("id", ""), dict(element.attrib), named("param"), named("variable"))


def user_xml(user: DirectoryEntry) -> str:
    """A user as ``find_user_xml`` prints it."""

    def lines(kind: str, values: Mapping[str, str]) -> list[str]:
        items = [f"    <{kind} name={quoteattr(name)} value={quoteattr(value)}></{kind}>" for name, value in values.items()]
        return [f"  <{kind}s>", *items, f"  </{kind}s>"] if items else []

    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in user.attributes.items())
    return "\n".join([f"<user{attributes}>", *lines("param", user.params), *lines("variable", user.variables), "</user>\n"])
