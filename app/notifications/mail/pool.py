"""SMTP: sends a mail over a few kept connections, and returns the outcome for each recipient."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

import aiosmtplib
from aiosmtplib import SMTP

from app.notifications.mail.conversation import BeforeContent, Closing, Conversation, Limits
from app.notifications.model import Outcome, RecipientState
from app.text import cleaned_reply

Security = Literal["none", "starttls", "tls"]

_IDLE = 10.0  # seconds that an idle connection is kept; servers allow minutes, but their operators do not want that
_QUIT = 2.0  # seconds for a goodbye
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiosmtplib.SMTPAuthenticationError, "the mail server refused the user name or the password"),
    (ssl.SSLCertVerificationError, "the mail server's certificate is not trusted, or is for another name"),
    (ssl.SSLError, "TLS with the mail server failed"),
    (aiosmtplib.SMTPServerDisconnected, "the mail server closed the connection"),
    (TimeoutError, "the mail server did not answer in time"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A connection that is ready for a mail. A client that has closed itself no longer knows its transport."""

    client: SMTP
    transport: asyncio.BaseTransport | None


class SmtpTransport:
    """Sends mails through one mail server, at most ``connections`` at a time."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        username: str = "",
        password: str = "",
        security: Security = "none",
        tls_context: ssl.SSLContext | None = None,
        connections: int = 5,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
    ) -> None:
        """``security`` other than ``none`` checks the server's certificate, with ``tls_context`` if one is given."""
        self._host, self._port = host, port
        self._sender = sender
        self._username, self._password = username, password
        self._security = security
        self._tls_context = tls_context or (ssl.create_default_context() if security != "none" else None)
        self._free = asyncio.Semaphore(connections)
        self._kept: list[tuple[Link, asyncio.TimerHandle]] = []
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._limits = limits

    async def send(
        self, recipients: Sequence[str], mail: bytes, *, sender: str = "", before_content: BeforeContent | None = None
    ) -> list[Outcome]:
        """Send ``mail``, one outcome a recipient: ``pending`` for trouble that may pass, ``unknown`` if the answer was lost.

        ``sender`` is the envelope's; without it that of the transport.
        ``before_content`` is called before any of the content goes; only what it raises comes up from here.
        """
        sender = sender or self._sender
        async with self._free:
            link = self._take()
            try:
                if link is not None:
                    outcomes = await self._send_again(link, sender, recipients, mail, before_content)
                    if outcomes is not None:
                        return outcomes
                link = await self._connect()
                outcomes = await Conversation(link.client, sender, self._limits).send(recipients, mail, before_content)
            except (aiosmtplib.SMTPException, OSError, ValueError) as error:
                code, reply = self._explain(error)
                _drop(link)
                return [Outcome(recipient, RecipientState.PENDING, code, reply) for recipient in recipients]
            except BaseException:
                _drop(link)
                raise
            self._keep(link)
            return outcomes

    async def _send_again(
        self, link: Link, sender: str, recipients: Sequence[str], mail: bytes, before_content: BeforeContent | None
    ) -> list[Outcome] | None:
        """Send over a kept connection; None if the server had closed it, or did so before it had the whole mail.

        Servers close idle connections, or close after some mails. Then a new connection can be used.
        """
        try:
            outcomes = await Conversation(link.client, sender, self._limits).send(recipients, mail, before_content)
        except aiosmtplib.SMTPServerDisconnected:
            _drop(link)
            return None
        self._keep(link)
        return outcomes

    async def probe(self, timeout: float = 5.0, *, login: bool = True) -> str:
        """The reason why no mail can be sent now, or ``""``. Connects with TLS and credentials as for a mail, then quits.

        Without ``login`` it sends no credentials, so a server that counts or slows down logins is left alone.
        """
        try:
            async with asyncio.timeout(timeout):
                link = await self._connect(login=login)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return self._explain(error)[1]
        self._goodbye(link)
        return ""

    async def close(self) -> None:
        """Close every connection."""
        for link, timer in self._kept:
            timer.cancel()
            self._goodbye(link)
        self._kept.clear()
        if self._goodbyes:
            await asyncio.wait(self._goodbyes)

    def _take(self) -> Link | None:
        while self._kept:
            link, timer = self._kept.pop()
            timer.cancel()
            if link.client.is_connected:
                return link
        return None

    def _keep(self, link: Link) -> None:
        if link.client.is_connected:
            self._kept.append((link, asyncio.get_running_loop().call_later(_IDLE, self._let_go, link)))
        else:
            _drop(link)

    def _let_go(self, link: Link) -> None:
        self._kept = [kept for kept in self._kept if kept[0] is not link]
        self._goodbye(link)

    def _goodbye(self, link: Link) -> None:
        task = asyncio.ensure_future(_quit(link))
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)

    async def _connect(self, *, login: bool = True) -> Link:
        client = SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=_own_name(),
            timeout=self._limits.greeting,
            use_tls=self._security == "tls",
            start_tls=self._security == "starttls",
            tls_context=self._tls_context,
        )
        try:
            await self._greeted(client)
            await client.ehlo(timeout=self._limits.command)
            if self._username and login:
                await client.login(self._username, self._password, timeout=self._limits.command)
        except BaseException:
            _drop(Link(client, client.transport))
            raise
        return Link(client, client.transport)

    async def _greeted(self, client: SMTP) -> None:
        """Connect, and wait for the greeting: the limit for connecting is short, the limit for the greeting is long."""
        connecting = asyncio.ensure_future(client.connect())
        try:
            await asyncio.wait({connecting}, timeout=self._limits.connect)
            if not connecting.done() and client.transport is None:
                raise TimeoutError
            await connecting
        finally:
            connecting.cancel()

    def _explain(self, error: Exception) -> tuple[int | None, str]:
        """The reply code and the words for the ledger; never what belongs to AUTH, which may repeat the credentials."""
        if isinstance(error, Closing):
            return error.code, self._words(error.reply)
        if isinstance(error, aiosmtplib.SMTPResponseException) and not isinstance(error, aiosmtplib.SMTPAuthenticationError):
            return error.code, self._words(error.message)
        for kind, words in _WORDS:
            if isinstance(error, kind) or isinstance(error.__cause__, kind):
                return getattr(error, "code", None), words
        return None, self._words(str(error)) or type(error).__name__

    def _words(self, text: str) -> str:
        return cleaned_reply(text.replace(self._password, "…") if self._password else text)


def _own_name() -> str:
    # As in the standard library: strict servers refuse a HELO name without a dot; an address literal is always accepted.
    name = socket.gethostname()
    return name if "." in name and name.isascii() and name.isprintable() and " " not in name else "[127.0.0.1]"


def _drop(link: Link | None) -> None:
    """Close at once, without waiting for what was not written yet: the peer may never read it."""
    if link is not None:
        link.client.close()
        if link.transport is not None:
            cast(asyncio.WriteTransport, link.transport).abort()


async def _quit(link: Link) -> None:
    with suppress(aiosmtplib.SMTPException, OSError):
        await link.client.quit(timeout=_QUIT)
    _drop(link)
