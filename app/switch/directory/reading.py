"""Reads a mailbox back out of a file of the static directory; the file may be anybody's, and hostile."""

import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from app.errors import VoicemailError
from app.switch.directory.xml import Format

_OBEYED = re.compile(rb"\$\$\{|x-pre-process|<!--#", re.IGNORECASE)
_PLACES: dict[Format, tuple[tuple[str, ...], ...]] = {
    "users": (("include",), ("include", "user"), ("include", "user", "params"), ("include", "user", "params", "param")),
    "fragments": (("include",), ("include", "param")),
}
_ATTRIBUTES = {"include": set[str](), "user": {"id"}, "params": set[str](), "param": {"name", "value"}}
_PARAMETERS = {
    "vm-password", "vm-mailto", "vm-enabled", "vm-keep-local-after-email", "sip-forbid-register", "allow-empty-password",
}  # fmt: skip
_LONGEST_WORD = 60


class NotAMailbox(VoicemailError):
    """The file is not a mailbox as this service writes it; the detail says why, without a value of the file."""


@dataclass(frozen=True, slots=True)
class FoundMailbox:
    """What a file says of a mailbox. Nothing of it was checked."""

    extension: str | None  # None: a fragment, which names none
    pin: str = field(repr=False)
    mail_to: str
    enabled: bool


def read_mailbox(content: bytes, style: Format) -> FoundMailbox:
    """The mailbox in a file. Raises ``NotAMailbox``, also for what would be lost if this service wrote the file anew."""
    if _OBEYED.search(content):
        raise NotAMailbox("it holds what the switch expands or includes")
    reader = _Reader(style)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    # Without a document type there are no entities of its own: nothing is fetched, and nothing grows.
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.ProcessingInstructionHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise NotAMailbox(f"it is no XML: line {error.lineno}, {expat.ErrorString(error.code)}") from None
    except (ValueError, LookupError):
        raise NotAMailbox("it is no XML in an encoding that can be read") from None
    return reader.found()


class _Reader:
    def __init__(self, style: Format) -> None:
        self._style: Format = style
        self._place: tuple[str, ...] = ()
        self._ids: list[str] = []
        self._params: dict[str, str] = {}

    def refuse(self, *_arguments: Any) -> None:
        raise NotAMailbox("it holds a document type, an entity or a processing instruction")

    def text(self, text: str) -> None:
        if text.strip():
            raise NotAMailbox("it holds text between its tags")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take a start tag. Raises ``NotAMailbox`` if it does not belong in this place."""
        self._place = (*self._place, name)
        if self._place not in _PLACES[self._style]:
            raise NotAMailbox(f"it holds <{_word(name)}>, which VOICEMAIL_DIRECTORY_FORMAT={self._style} has not in that place")
        if set(attributes) != _ATTRIBUTES[name]:
            raise NotAMailbox(f"the attributes of <{name}> are not {sorted(_ATTRIBUTES[name])}")
        if name == "user":
            self._ids.append(attributes["id"])
        elif name == "param":
            self._take(attributes["name"], attributes["value"])

    def end(self, _name: str) -> None:
        self._place = self._place[:-1]

    def found(self) -> FoundMailbox:
        """The mailbox, after the whole file was parsed. Raises ``NotAMailbox``."""
        if len(self._ids) != (1 if self._style == "users" else 0):
            raise NotAMailbox(f"it holds {len(self._ids)} users")
        if "vm-password" not in self._params:
            raise NotAMailbox("it has no vm-password")
        enabled = self._params.get("vm-enabled", "true").lower()
        return FoundMailbox(
            extension=self._ids[0] if self._ids else None,
            pin=self._params["vm-password"],
            mail_to=self._params.get("vm-mailto", ""),
            enabled=enabled in {"true", "yes", "on", "enabled", "active", "allow", "t", "1"},
        )

    def _take(self, name: str, value: str) -> None:
        if name not in _PARAMETERS:
            raise NotAMailbox(f"it has the parameter {_word(name)}, which this service does not write and would lose")
        if name in self._params:
            raise NotAMailbox(f"it has {name} twice")
        self._params[name] = value


def _word(text: str) -> str:
    """A name from a file, for a message: short, in ASCII, without control characters."""
    return ascii(text[:_LONGEST_WORD])[1:-1]
