"""A mail server that does as it is told: any reply to any command, silence, half a reply, or the end of the connection."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

Reply = str | float | asyncio.Event | Callable[[str], str | float]

SILENT, CLOSE, HALF = "silent", "close", "half"


class ScriptedMail:
    """An SMTP server on 127.0.0.1; ``replies`` are by verb, ``CONTENT`` the one after a mail's final dot. A function is given the command's line, or the mail; an event is waited for, and so
    are seconds."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, implicit: bool = False, extensions: tuple[str, ...] = ("SIZE 50000000",)
    ) -> None:
        self.replies: dict[str, Reply] = {}
        self.mails: list[tuple[list[str], bytes]] = []
        self.connections = 0
        self.commands: list[str] = []
        self.port = 0
        self._tls, self._implicit, self._extensions = tls, implicit, extensions
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ScriptedMail":
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls if self._implicit else None, limit=1 << 26
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            await self._talk(reader, writer)
        writer.transport.abort()
        self._tasks.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await self._say(writer, "GREETING", "220 mail.example ready"):
            return
        recipients: list[str] = []
        while True:
            line = (await reader.readuntil(b"\r\n")).decode().strip()
            self.commands.append(line)
            verb = line.split(" ")[0].upper()
            usual = {
                "EHLO": self._hello(),
                "DATA": "354 go on",
                "STARTTLS": "220 go on",
                "QUIT": "221 bye",
                "AUTH": "235 welcome",
            }.get(verb, "250 OK")
            going_on = await self._say(writer, verb, usual, line)
            if not going_on or verb == "QUIT":
                return
            if verb == "MAIL":
                recipients = []
            elif verb == "RCPT" and going_on == "2":
                recipients.append(line[line.index("<") + 1 : line.index(">")])
            elif verb == "STARTTLS" and going_on == "2":
                await writer.start_tls(self._tls)  # type: ignore[arg-type]
            elif verb == "DATA" and going_on == "3":
                content = await reader.readuntil(b"\r\n.\r\n")
                going_on = await self._say(writer, "CONTENT", "250 taken", content.decode("latin-1"))
                if not going_on:
                    return
                if going_on == "2":
                    self.mails.append((recipients, content[:-3]))

    def _hello(self) -> str:
        lines = ["mail.example", *self._extensions]
        return "\r\n".join(f"250{'-' if number < len(lines) else ' '}{line}" for number, line in enumerate(lines, 1))

    async def _say(self, writer: asyncio.StreamWriter, verb: str, usual: str, line: str = "") -> str:
        """The first digit of what was said; ``""`` if the connection is to end."""
        reply = self.replies.get(verb, usual)
        if callable(reply):
            reply = reply(line)
        if isinstance(reply, asyncio.Event):
            await reply.wait()
            reply = usual
        if isinstance(reply, float):
            await asyncio.sleep(reply)
            reply = usual
        if reply == SILENT:
            await asyncio.sleep(3600)
        if reply == CLOSE:
            return ""
        if reply == HALF:
            writer.write(b"25")
            await writer.drain()
            return ""
        writer.write(reply.encode() + b"\r\n")
        await writer.drain()
        return reply[0]
