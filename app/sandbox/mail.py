"""A mail server that accepts every mail and sends none: it keeps them in memory and, for people to look at, as files."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

_LARGEST = 100 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """One mail as the server took it."""

    sender: str
    recipients: Sequence[str]
    content: bytes = field(repr=False)

    @property
    def parsed(self) -> EmailMessage:
        """The mail's headers and parts."""
        message = message_from_bytes(self.content, policy=default)
        assert isinstance(message, EmailMessage)
        return message


class MailCatcher:
    """An SMTP server on 127.0.0.1, on the same port again after a stop."""

    def __init__(self, *, folder: Path | None = None, port: int = 0) -> None:
        """``folder``: where each mail is also written, as ``.eml``."""
        self.messages: list[CaughtMail] = []
        self.port = port
        self._folder = folder
        self._refused: dict[str, str] = {}
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    async def start(self) -> None:
        """Listen."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.get_running_loop().create_server(self._session, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop whoever is connected."""
        if self._server is not None:
            self._server.close()
            self._server = None
            for transport in list(self._open):
                transport.abort()

    def refuse(self, address: str, reply: str = "550 5.1.1 no such user") -> None:
        """Answer this recipient with this reply from now on."""
        self._refused[address] = reply

    def accept(self, address: str) -> None:
        """Take mail for this recipient again."""
        self._refused.pop(address, None)

    async def wait_for(self, count: int, *, timeout: float) -> None:
        """Wait until so many mails have come. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Sequence[str]
    ) -> str:
        """Called by aiosmtpd for each recipient."""
        if address in self._refused:
            return self._refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by aiosmtpd for each mail."""
        content = envelope.content
        assert isinstance(content, bytes)
        mail = CaughtMail(envelope.mail_from or "", tuple(envelope.rcpt_tos), content)
        if self._folder is not None:
            path = self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}.eml"
            await asyncio.to_thread(path.write_bytes, content)
        async with self._arrived:
            self.messages.append(mail)
            self._arrived.notify_all()
        return "250 OK"

    def _session(self) -> SMTP:
        opened = self._open

        class Tracked(SMTP):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                if isinstance(transport, asyncio.Transport):
                    opened.add(transport)
                super().connection_made(transport)

            def connection_lost(self, error: Exception | None) -> None:
                opened.discard(self.transport)
                super().connection_lost(error)

        return Tracked(
            self, data_size_limit=_LARGEST, enable_SMTPUTF8=True, hostname="localhost", loop=asyncio.get_running_loop()
        )
