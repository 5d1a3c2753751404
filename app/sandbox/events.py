"""Events as FreeSWITCH makes them and writes them on an Event Socket."""

import asyncio
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

_UNSAFE = frozenset('\r\n #%&+:;<=>?@[\\]^`{|}"')
_HEX = frozenset("0123456789ABCDEF")


def encoded(text: str) -> str:
    """A header's value on the wire. A ``%`` that looks like an escape already stays as it is, whoever wrote it."""
    out = []
    for index, character in enumerate(text):
        escape = text[index + 1 : index + 3]
        if character == "%" and len(escape) == 2 and _HEX.issuperset(escape):
            out.append(character)
        elif character in _UNSAFE or not " " < character < "\x7f":
            out.append("".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape")))
        else:
            out.append(character)
    return "".join(out)


@dataclass(frozen=True, slots=True)
class SwitchEvent:
    """One event: its name, its subclass if it is CUSTOM, its headers in their order, and a body."""

    name: str
    subclass: str
    headers: tuple[tuple[str, str], ...]
    body: str = ""

    def plain(self) -> bytes:
        """The event as ``event plain`` gives it."""
        lines = [f"{name}: {encoded(value)}" for name, value in self.headers]
        if self.body:
            lines.append(f"Content-Length: {len(self.body.encode())}")
        text = ("\n".join(lines) + "\n\n" + self.body).encode()
        return f"Content-Length: {len(text)}\nContent-Type: text/event-plain\n\n".encode() + text

    def matches(self, filters: Iterable[tuple[str, str]]) -> bool:
        """Whether the event passes a listener's filters; without any, everything does."""
        wanted = list(filters)
        found = dict(self.headers)
        return not wanted or any(found.get(name) == value for name, value in wanted)


class EventSource:
    """Makes the events of one switch, and hands each to whoever listens."""

    def __init__(self) -> None:
        self._core_uuid = str(uuid4())
        self._host = socket.gethostname()
        self._sequence = count(1)
        self._listeners: set[asyncio.Queue[SwitchEvent]] = set()

    def listen(self) -> "asyncio.Queue[SwitchEvent]":
        """A queue that every later event is put into."""
        queue: asyncio.Queue[SwitchEvent] = asyncio.Queue()
        self._listeners.add(queue)
        return queue

    def forget(self, queue: "asyncio.Queue[SwitchEvent]") -> None:
        """Put no more events into a queue."""
        self._listeners.discard(queue)

    def fire(self, name: str, headers: Mapping[str, str], *, subclass: str = "", source: str = "", body: str = "") -> None:
        """Make an event and hand it round. ``source`` is the function that it comes from."""
        event = SwitchEvent(name, subclass, (*self.stamp(name, subclass, source), *headers.items()), body)
        for queue in self._listeners:
            queue.put_nowait(event)

    def stamp(self, name: str, subclass: str = "", source: str = "") -> tuple[tuple[str, str], ...]:
        """The headers that every event begins with."""
        now = time.time()
        stamped = {
            "Event-Name": name,
            "Core-UUID": self._core_uuid,
            "FreeSWITCH-Hostname": self._host,
            "FreeSWITCH-Switchname": self._host,
            "FreeSWITCH-IPv4": "127.0.0.1",
            "FreeSWITCH-IPv6": "::1",
            "Event-Date-Local": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)),
            "Event-Date-GMT": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)),
            "Event-Date-Timestamp": str(int(now * 1e6)),
            "Event-Calling-File": "mod_voicemail.c",
            "Event-Calling-Function": source,
            "Event-Calling-Line-Number": "1",
            "Event-Sequence": str(next(self._sequence)),
        }
        first = (("Event-Subclass", subclass),) if subclass else ()
        return (*first, *stamped.items())
