"""An Event Socket client of a hundred lines, which shares nothing with the service's own: what it reads is what was sent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

LIMIT = 10.0  # seconds for anything a switch on this machine answers


@dataclass(frozen=True)
class Frame:
    """One thing the switch sent: its header lines as they came, and its body."""

    lines: tuple[str, ...]
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        for line in self.lines:
            key, _, value = line.partition(": ")
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name: str) -> str | None:
        """The header's value as it was sent, or None."""
        try:
            return self[name]
        except KeyError:
            return None

    @property
    def text(self) -> str:
        """The body of an ``api/response``; the ``Reply-Text`` of anything that has one."""
        return self.get("Reply-Text") or self.body.decode()


@dataclass(frozen=True)
class Event:
    """An event: its header lines as sent, and decoded line by line."""

    lines: tuple[str, ...]
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, frame: Frame) -> Self:
        """The event in a ``text/event-plain``."""
        block, _, body = frame.body.decode().partition("\n\n")
        lines = tuple(block.split("\n"))
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers.setdefault(name, unquote(value))
        return cls(lines, body, headers)

    @property
    def name(self) -> str:
        """Its Event-Name, or for mod_voicemail's own events the VM-Action."""
        return self.headers.get("VM-Action") or self.headers["Event-Name"]

    def raw(self, name: str) -> list[str]:
        """Every value of the header, as sent."""
        return [line.partition(": ")[2] for line in self.lines if line.partition(": ")[0] == name]

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


class PlainClient:
    """One connection. Replies are taken in order; events gather in ``events`` from the moment the switch sends them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.events: list[Event] = []
        self.closed = False
        self.notice: Frame | None = None
        self._reader, self._writer = reader, writer
        self._replies: asyncio.Queue[Frame] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(cls, port: int, password: str | None = None, host: str = "127.0.0.1") -> Self:
        """Connect, and log in where a password is given."""
        client = cls(*await asyncio.open_connection(host, port, limit=1 << 22))
        greeting = await client.reply()
        assert greeting["Content-Type"] == "auth/request"
        if password is not None:
            assert (await client.command(f"auth {password}")).text == "+OK accepted"
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        self._reading.cancel()
        self._writer.close()
        await asyncio.wait({self._reading})

    async def send(self, data: bytes) -> None:
        """Send these bytes and nothing else."""
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, limit: float = LIMIT) -> Frame:
        """The next reply."""
        return await asyncio.wait_for(self._replies.get(), limit)

    async def command(self, text: str, limit: float = LIMIT) -> Frame:
        """Send one command and wait for its reply."""
        await self.send(f"{text}\n\n".encode("utf-8", "surrogateescape"))
        return await self.reply(limit)

    async def api(self, text: str, limit: float = LIMIT) -> str:
        """The body of the reply to ``api …``."""
        frame = await self.command(f"api {text}", limit)
        assert frame["Content-Type"] == "api/response", frame
        return frame.body.decode()

    async def until(self, wanted: Callable[["PlainClient"], object], limit: float = LIMIT) -> None:
        """Wait until something is true of this client, which is looked at whenever a frame arrives."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: wanted(self)), limit)

    async def event(self, name: str, limit: float = LIMIT, **headers: str) -> Event:
        """The first event of this name with these headers (``VM_User="101"`` for VM-User), waited for if need be."""
        wanted = {key.replace("_", "-"): value for key, value in headers.items()}

        def matching() -> list[Event]:
            return [event for event in self.events if event.name == name and wanted.items() <= event.headers.items()]

        await self.until(lambda _: matching(), limit)
        return matching()[0]

    async def _read(self) -> None:
        try:
            while True:
                await self._sort(await self._frame())
        except (asyncio.IncompleteReadError, ConnectionError):
            async with self._changed:
                self.closed = True
                self._changed.notify_all()

    async def _frame(self) -> Frame:
        block = (await self._reader.readuntil(b"\n\n")).decode().strip("\n")
        frame = Frame(tuple(block.split("\n")))
        length = int(frame.get("Content-Length") or 0)
        return Frame(frame.lines, await self._reader.readexactly(length)) if length else frame

    async def _sort(self, frame: Frame) -> None:
        async with self._changed:
            match frame["Content-Type"]:
                case "text/event-plain":
                    self.events.append(Event.parse(frame))
                case "text/disconnect-notice":
                    self.notice = frame
                case _:
                    self._replies.put_nowait(frame)
            self._changed.notify_all()
