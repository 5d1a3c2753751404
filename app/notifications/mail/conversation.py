"""One mail over one SMTP connection, from MAIL FROM to the server's final reply, with the time limits of RFC 5321, 4.5.3.2."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import aiosmtplib
import structlog
from aiosmtplib import SMTP

from app.notifications.model import Outcome, RecipientState
from app.text import cleaned_reply

log = structlog.get_logger(__name__)

# Called with the recipients that the server takes, when it waits for the content. If it raises, no content is sent.
BeforeContent: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]

CLOSING = 421
_GO_ON = 354
_BLOCK = 65536  # bytes
_BYTES_A_SECOND = 100_000  # the slowest link a mail must get through
# Wrong or missing credentials and a server that insists on TLS (RFC 4954, RFC 3207): a recipient is not to blame for settings.
_OUR_SETTINGS = frozenset({530, 534, 535, 538})
_NO_ANSWER = "the mail was sent, and the mail server did not say whether it accepted it"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for a mail server, in seconds. All but ``connect``, ``command`` and ``reset`` are RFC 5321's."""

    connect: float = 10.0  # TCP, and TLS with a server that begins with it
    greeting: float = 300.0
    command: float = 300.0  # EHLO, STARTTLS and AUTH, for which the RFC names none
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0  # for the server to take 64 KiB of content
    termination: float = 600.0  # content scanners take minutes
    reset: float = 10.0  # unanswered, the connection is given up, and no mail with it

    @property
    def longest_content(self) -> float:
        """The longest that the content of the largest mail and the answer to it can take."""
        return self.block + 25_000_000 / _BYTES_A_SECOND + self.termination


class Closing(aiosmtplib.SMTPServerDisconnected):
    """The server said 421: it closes the connection."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.code, self.reply = CLOSING, reply


class Conversation:
    """One mail over one connection."""

    def __init__(self, client: SMTP, sender: str, limits: Limits) -> None:
        self._client = client
        self._sender = sender
        self._limits = limits

    async def send(self, recipients: Sequence[str], mail: bytes, before_content: BeforeContent | None) -> list[Outcome]:
        """The outcome for each recipient.

        Raises ``SMTPException`` if the connection cannot be used again; then no content was sent.
        """
        options = [f"SIZE={len(mail)}"] if self._client.supports_extension("size") else []
        try:
            await self._client.mail(self._sender, options=options, timeout=self._limits.mail)
        except aiosmtplib.SMTPResponseException as error:
            if error.code == CLOSING:
                raise Closing(error.message) from error
            await self._reset()
            return [outcome_of(recipient, error.code, error.message) for recipient in recipients]
        outcomes = {recipient: await self._recipient(recipient) for recipient in recipients}
        accepted = [recipient for recipient, outcome in outcomes.items() if outcome.state is RecipientState.ACCEPTED]
        if not accepted:
            await self._reset()
            return list(outcomes.values())
        answer = await self._content(accepted, mail, before_content)
        return [*({**outcomes, **{recipient: answer_for(recipient, answer) for recipient in accepted}}).values()]

    async def _recipient(self, recipient: str) -> Outcome:
        try:
            response = await self._client.rcpt(recipient, timeout=self._limits.rcpt)
        except aiosmtplib.SMTPResponseException as error:
            if error.code == CLOSING:
                raise Closing(error.message) from error
            return outcome_of(recipient, error.code, error.message)
        except ValueError as error:  # also UnicodeEncodeError; the server has not seen it
            log.warning("mail_address_unusable", error=type(error).__name__)
            return Outcome(recipient, RecipientState.REFUSED, None, "not an address that this service can mail to")
        return outcome_of(recipient, response.code, response.message)

    async def _content(
        self, accepted: Sequence[str], mail: bytes, before_content: BeforeContent | None
    ) -> aiosmtplib.SMTPResponse | None:
        """The server's final reply; None if it received the whole mail and its reply is missing or unreadable."""
        response = await self._client.execute_command(b"DATA", timeout=self._limits.data)
        if response.code == _GO_ON:
            if before_content is not None:
                await before_content(accepted)
            return await self._upload(dotted(mail))
        if response.code == CLOSING:
            self._client.close()
        else:
            await self._reset()
        return response

    async def _upload(self, content: bytes) -> aiosmtplib.SMTPResponse | None:
        """Write the content and wait for the answer. Raises ``SMTPException`` or ``OSError`` only if its end was not written."""
        protocol = self._client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        # Before anything is written: an answer that comes while nobody waits for one is thrown away.
        answer = asyncio.ensure_future(protocol.read_response())
        await asyncio.sleep(0)
        try:
            last = (len(content) - 1) // _BLOCK * _BLOCK
            async with asyncio.timeout(self._limits.block + len(content) / _BYTES_A_SECOND):
                for start in range(0, last, _BLOCK):
                    if answer.done():  # the server answered early, or has closed the connection
                        return self._over(answer.result())
                    protocol.write(content[start : start + _BLOCK])
                    async with asyncio.timeout(self._limits.block):
                        await protocol._drain_helper()
            protocol.write(content[last:])
        except BaseException:
            answer.cancel()
            raise
        return await self._answer(answer)

    async def _answer(self, answer: "asyncio.Future[aiosmtplib.SMTPResponse]") -> aiosmtplib.SMTPResponse | None:
        try:
            async with asyncio.timeout(self._limits.block + self._limits.termination):
                response = await answer
        except (aiosmtplib.SMTPException, OSError, ValueError):
            self._client.close()
            return None
        if response.code == CLOSING:
            self._client.close()
        elif not 200 <= response.code < 300:
            await self._reset()
        return response

    def _over(self, response: aiosmtplib.SMTPResponse) -> aiosmtplib.SMTPResponse:
        """An answer in the middle of the content: this connection is out of step."""
        self._client.close()
        if 200 <= response.code < 300:
            raise aiosmtplib.SMTPServerDisconnected("the mail server accepted half a mail")
        return response

    async def _reset(self) -> None:
        """Make the connection fit for the next mail, or close it."""
        try:
            await self._client.rset(timeout=self._limits.reset)
        except (aiosmtplib.SMTPException, OSError):
            with suppress(OSError):
                self._client.close()


def dotted(mail: bytes) -> bytes:
    """``mail`` as DATA wants it: lines that end in CRLF, a dot before each that begins with one, and the final dot."""
    if not mail.count(b"\r\n") == mail.count(b"\n") == mail.count(b"\r"):
        mail = mail.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not mail.endswith(b"\r\n"):
        mail += b"\r\n"
    if mail.startswith(b"."):
        mail = b"." + mail
    return mail.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def answer_for(recipient: str, answer: aiosmtplib.SMTPResponse | None) -> Outcome:
    """What the answer to the whole mail means for a recipient. ``unknown`` if it says neither yes nor no."""
    if answer is None:
        return Outcome(recipient, RecipientState.UNKNOWN, None, _NO_ANSWER)
    if 200 <= answer.code < 300 or 400 <= answer.code < 600:
        return outcome_of(recipient, answer.code, answer.message)
    return Outcome(recipient, RecipientState.UNKNOWN, answer.code, cleaned_reply(answer.message) or _NO_ANSWER)


def outcome_of(recipient: str, code: int, reply: str) -> Outcome:
    """What a reply means for a recipient: 2yz accepted, 5yz refused, anything else pending."""
    state = RecipientState.PENDING
    if 200 <= code < 300:
        state = RecipientState.ACCEPTED
    elif 500 <= code < 600 and code not in _OUR_SETTINGS:
        state = RecipientState.REFUSED
    return Outcome(recipient, state, code if code >= 200 else None, cleaned_reply(reply))
