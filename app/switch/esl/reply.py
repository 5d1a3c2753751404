"""What the switch sends back: the reply to a command, and events. Nothing here does any I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote

# The phone's change of a PIN fires an event that carries the new PIN in clear. It is dropped before anything can see it.
_SECRET_HEADERS = frozenset({"vm-user-password"})


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """The switch's reply to one command; ``repr`` leaves the text out, as it may hold a PIN or a password."""

    content_type: str
    text: str

    @property
    def ok(self) -> bool:
        """False for ``-ERR …``. True says only that: several commands say ``+OK`` and have done nothing."""
        return not self.text.startswith("-ERR")

    @property
    def done(self) -> bool:
        """True for ``+OK …`` and for ``-OK …``, which is how ``vm_fsdb_*`` spell success."""
        return self.text.startswith(("+OK", "-OK"))

    @property
    def empty(self) -> bool:
        """True when the command printed nothing, which the switch reports as ``-ERR no reply``."""
        return not self.text or self.text.rstrip("\r\n") == "-ERR no reply"

    @property
    def value(self) -> str:
        """The text without its final line break; ``''`` for an empty reply and for ``-ERR …``."""
        return self.text.rstrip("\r\n") if self.ok else ""

    def __repr__(self) -> str:
        return f"Reply({self.content_type!r}, ok={self.ok})"


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """An event of the switch: a hint to look at the tables, never data, because callers write parts of it."""

    name: str
    subclass: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Event({self.name!r}, {self.subclass!r})"


def parse_headers(block: str) -> dict[str, str]:
    """The ``Name: value`` lines of a block, values as sent. The first of two equal names wins, as it does in the switch."""
    headers: dict[str, str] = {}
    for line in block.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip(), value.strip())
    return headers


def parse_event(body: str) -> Event:
    """An event from the body of a ``text/event-plain``.

    Lines are split first and values decoded after: the switch leaves a ``%0A`` that a caller put into a name as it is, so
    that decoding first would turn it into a header of the caller's choosing.
    """
    block, _, _ = body.partition("\n\n")
    headers = {
        name: unquote(value, errors="replace")
        for name, value in parse_headers(block).items()
        if name.lower() not in _SECRET_HEADERS
    }
    return Event(headers.get("Event-Name", ""), headers.get("Event-Subclass", ""), MappingProxyType(headers))
