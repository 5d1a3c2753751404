"""SMTP: one mail to its recipients over a few kept connections, and what became of it for each of them."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

import aiosmtplib
import structlog
from aiosmtplib import SMTP

from app.notifications.model import Outcome, RecipientState
from app.notifications.wording import cleaned_reply

log = structlog.get_logger(__name__)

Security = Literal["none", "starttls", "tls"]

_IDLE = 10.0  # seconds a connection is kept without a mail; servers wait for minutes, but their operators dislike it
_BYTES_A_SECOND = 100_000  # the slowest link a mail must get through
_QUIT = 2.0  # seconds for a goodbye
# Wrong or missing credentials and a server that insists on TLS (RFC 4954, RFC 3207): a recipient is not to blame for settings.
_OUR_SETTINGS = frozenset({530, 534, 535, 538})
_CLOSING = 421
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiosmtplib.SMTPAuthenticationError, "the mail server refused the user name or the password"),
    (ssl.SSLCertVerificationError, "the mail server's certificate is not trusted, or is for another name"),
    (ssl.SSLError, "TLS with the mail server failed"),
    (aiosmtplib.SMTPServerDisconnected, "the mail server closed the connection"),
    (TimeoutError, "the mail server did not answer in time"),
)


class Closing(aiosmtplib.SMTPServerDisconnected):
    """The server said 421: it closes the connection."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.code, self.reply = _CLOSING, reply


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
        connect_timeout: float = 10.0,
        command_timeout: float = 60.0,
    ) -> None:
        """``security`` other than ``none`` checks the server's certificate, with ``tls_context`` where one is given."""
        self._host, self._port = host, port
        self._sender = sender
        self._username, self._password = username, password
        self._security = security
        self._tls_context = tls_context or (ssl.create_default_context() if security != "none" else None)
        self._free = asyncio.Semaphore(connections)
        self._kept: list[tuple[Link, asyncio.TimerHandle]] = []
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._connect_timeout, self._command_timeout = connect_timeout, command_timeout

    async def send(self, recipients: Sequence[str], mail: bytes) -> list[Outcome]:
        """Send ``mail``, one outcome a recipient. Trouble never raises: it is the outcome, ``pending`` where it may pass.

        What happened to a mail whose last reply was lost is not known; that is ``pending`` too, so it may arrive twice.
        """
        async with self._free:
            link = self._take()
            try:
                if link is not None and (outcomes := await self._send_again(link, recipients, mail)) is not None:
                    return outcomes
                link = await self._connect()
                outcomes = await Conversation(link.client, self._sender, self._command_timeout).send(recipients, mail)
            except (aiosmtplib.SMTPException, OSError, ValueError) as error:
                code, reply = self._explain(error)
                _drop(link)
                return [Outcome(recipient, RecipientState.PENDING, code, reply) for recipient in recipients]
            except BaseException:
                _drop(link)
                raise
            self._keep(link)
            return outcomes

    async def _send_again(self, link: Link, recipients: Sequence[str], mail: bytes) -> list[Outcome] | None:
        """Send over a kept connection; None where the server had closed it, or did so before the mail was on its way.

        Servers close connections that idle, or after so many mails, and nothing speaks against a new one.
        """
        conversation = Conversation(link.client, self._sender, self._command_timeout)
        try:
            outcomes = await conversation.send(recipients, mail)
        except aiosmtplib.SMTPServerDisconnected:
            if conversation.content_sent:
                raise
            _drop(link)
            return None
        self._keep(link)
        return outcomes

    async def probe(self, timeout: float = 5.0) -> str:
        """Why no mail can be sent now, or ``""``: connects as for a mail, also with TLS and credentials, and says goodbye."""
        try:
            async with asyncio.timeout(timeout):
                link = await self._connect()
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

    async def _connect(self) -> Link:
        client = SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=_own_name(),
            timeout=self._connect_timeout,
            use_tls=self._security == "tls",
            start_tls=self._security == "starttls",
            tls_context=self._tls_context,
        )
        try:
            # Over all of it: a server that answers each step in its own time must not hold us for minutes.
            async with asyncio.timeout(3 * self._connect_timeout):
                await client.connect()
                await client.ehlo()
                if self._username:
                    await client.login(self._username, self._password)
        except BaseException:
            _drop(Link(client, client.transport))
            raise
        return Link(client, client.transport)

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


class Conversation:
    """One mail over one connection, from MAIL FROM to the server's last word."""

    def __init__(self, client: SMTP, sender: str, timeout: float) -> None:
        self._client = client
        self._sender = sender
        self._timeout = timeout
        self.content_sent = False  # from then on a lost reply leaves it open whether the mail was accepted

    async def send(self, recipients: Sequence[str], mail: bytes) -> list[Outcome]:
        """The outcome for each recipient. Raises ``SMTPException`` where the connection is of no more use."""
        options = [f"SIZE={len(mail)}"] if self._client.supports_extension("size") else []
        try:
            await self._client.mail(self._sender, options=options, timeout=self._timeout)
        except aiosmtplib.SMTPResponseException as error:
            if error.code == _CLOSING:
                raise Closing(error.message) from error
            await self._reset()
            return [outcome_of(recipient, error.code, error.message) for recipient in recipients]
        outcomes = {recipient: await self._recipient(recipient) for recipient in recipients}
        accepted = [recipient for recipient, outcome in outcomes.items() if outcome.state is RecipientState.ACCEPTED]
        if not accepted:
            await self._reset()
            return list(outcomes.values())
        code, reply = await self._content(mail)
        return [*({**outcomes, **{recipient: outcome_of(recipient, code, reply) for recipient in accepted}}).values()]

    async def _recipient(self, recipient: str) -> Outcome:
        try:
            response = await self._client.rcpt(recipient, timeout=self._timeout)
        except aiosmtplib.SMTPResponseException as error:
            if error.code == _CLOSING:
                raise Closing(error.message) from error
            return outcome_of(recipient, error.code, error.message)
        except ValueError as error:  # also UnicodeEncodeError; the server has not seen it
            log.warning("mail_address_unusable", error=type(error).__name__)
            return Outcome(recipient, RecipientState.REFUSED, None, "not an address that this service can mail to")
        return outcome_of(recipient, response.code, response.message)

    async def _content(self, mail: bytes) -> tuple[int, str]:
        self.content_sent = True
        try:
            response = await self._client.data(mail, timeout=self._timeout + len(mail) / _BYTES_A_SECOND)
        except aiosmtplib.SMTPDataError as error:
            if error.code == _CLOSING:
                self._client.close()
            else:
                await self._reset()
            return error.code, error.message
        return response.code, response.message

    async def _reset(self) -> None:
        """Make the connection fit for the next mail, or close it."""
        try:
            await self._client.rset(timeout=self._timeout)
        except (aiosmtplib.SMTPException, OSError):
            self._client.close()


def outcome_of(recipient: str, code: int, reply: str) -> Outcome:
    """What a reply means for a recipient: 2yz accepted, 5yz refused, anything else pending."""
    state = RecipientState.PENDING
    if 200 <= code < 300:
        state = RecipientState.ACCEPTED
    elif 500 <= code < 600 and code not in _OUR_SETTINGS:
        state = RecipientState.REFUSED
    return Outcome(recipient, state, code if code >= 200 else None, cleaned_reply(reply))


def _own_name() -> str:
    # As the standard library does it: a name without a dot is none to the strict, an address in brackets always is.
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
