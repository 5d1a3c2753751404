"""What a mail server may do to a mail: each reply becomes the right outcome, and none is ever taken for an acceptance."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.message import EmailMessage
from typing import Any

import pytest
import trustme

from app.notifications.mail.conversation import Limits
from app.notifications.mail.pool import SmtpTransport
from app.notifications.model import Outcome, RecipientState
from app.sandbox.mail import MailCatcher
from tests.support.scripted_mail import CLOSE, HALF, SILENT, ScriptedMail

ACCEPTED, REFUSED, PENDING = RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.PENDING
UNKNOWN = RecipientState.UNKNOWN
QUICK = Limits(connect=0.5, greeting=0.5, command=0.5, mail=0.5, rcpt=0.5, data=0.5, block=0.25, termination=0.25, reset=0.5)
MAIL = b"From: a@b.example\r\nSubject: x\r\n\r\nhello\r\n.a line with a dot\r\n"

Open = Callable[..., AbstractAsyncContextManager[SmtpTransport]]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedMail]:
    async with ScriptedMail() as server:
        yield server


@asynccontextmanager
async def transport_to(port: int, **options: Any) -> AsyncIterator[SmtpTransport]:
    """A transport to a server of this machine, with short time limits."""
    usual = {"sender": "voicemail@lab.local", "limits": QUICK}
    transport = SmtpTransport("localhost", port, **usual | options)
    try:
        yield transport
    finally:
        await transport.close()


def states(outcomes: list[Outcome]) -> dict[str, RecipientState]:
    """The state of each recipient."""
    return {outcome.address: outcome.state for outcome in outcomes}


async def test_a_mail_arrives_bit_for_bit() -> None:
    catcher = MailCatcher()
    await catcher.start()
    async with transport_to(catcher.port) as transport:
        outcomes = await transport.send(["tech@example.com", "sales@example.com"], MAIL)
    await catcher.stop()

    assert states(outcomes) == {"tech@example.com": ACCEPTED, "sales@example.com": ACCEPTED}
    (mail,) = catcher.messages
    assert mail.content == MAIL
    assert mail.recipients == ("tech@example.com", "sales@example.com")
    assert mail.sender == "voicemail@lab.local"


@pytest.mark.parametrize(
    ("verb", "reply", "state", "code"),
    [
        ("MAIL", "451 4.3.0 busy", PENDING, 451), ("MAIL", "550 5.7.1 not you", REFUSED, 550), ("MAIL", "530 5.7.0 authenticate", PENDING, 530),
        ("RCPT", "450 4.2.1 greylisted", PENDING, 450), ("RCPT", "550 5.1.1 no such user", REFUSED, 550), ("RCPT", "552 5.2.2 full", REFUSED, 552),
        ("DATA", "451 4.3.0 busy", PENDING, 451), ("DATA", "554 5.5.1 no", REFUSED, 554),
        ("CONTENT", "452 4.3.1 no space", PENDING, 452), ("CONTENT", "554 5.7.1 spam", REFUSED, 554), ("CONTENT", "552 too large", REFUSED, 552),
        ("MAIL", "421 closing", PENDING, 421), ("RCPT", "421 closing", PENDING, 421), ("CONTENT", "421 closing", PENDING, 421),
        ("GREETING", "554 no service", PENDING, 554), ("GREETING", "421 too many connections", PENDING, 421),
        ("EHLO", "550 go away", PENDING, None),
    ],
)  # fmt: skip
async def test_a_reply_is_what_it_says(
    server: ScriptedMail, verb: str, reply: str, state: RecipientState, code: int | None
) -> None:
    server.replies[verb] = reply
    if verb == "EHLO":
        server.replies["HELO"] = reply
    async with transport_to(server.port) as transport:
        (outcome,) = await transport.send(["tech@example.com"], MAIL)

    assert outcome.state is state
    assert code is None or outcome.code == code
    assert outcome.reply
    assert server.mails == []


@pytest.mark.parametrize("how", [SILENT, CLOSE, HALF])
@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
async def test_trouble_at_any_step_is_not_acceptance_and_the_next_mail_goes(server: ScriptedMail, verb: str, how: str) -> None:
    """Once the whole content was sent, what became of the mail is not known; before that it certainly was not accepted."""
    server.replies[verb] = how
    async with transport_to(server.port) as transport:
        outcomes = await transport.send(["tech@example.com", "sales@example.com"], MAIL)
        expected = UNKNOWN if verb == "CONTENT" else PENDING
        assert states(outcomes) == {"tech@example.com": expected, "sales@example.com": expected}
        assert all(outcome.reply for outcome in outcomes)

        server.replies.clear()
        outcomes = await transport.send(["tech@example.com"], MAIL)
        assert states(outcomes) == {"tech@example.com": ACCEPTED}
    assert len(server.mails) == 1


async def test_a_server_that_is_away_is_pending(unused_port: int) -> None:
    async with transport_to(unused_port) as transport:
        (outcome,) = await transport.send(["tech@example.com"], MAIL)

    assert (outcome.state, outcome.code) == (PENDING, None)


async def test_of_several_recipients_each_has_its_own_outcome(server: ScriptedMail) -> None:
    replies = {"a@x.example": "250 OK", "b@x.example": "550 no such user", "c@x.example": "450 later"}
    server.replies["RCPT"] = lambda line: replies[line[line.index("<") + 1 : line.index(">")]]
    async with transport_to(server.port) as transport:
        outcomes = await transport.send(list(replies), MAIL)

    assert states(outcomes) == {"a@x.example": ACCEPTED, "b@x.example": REFUSED, "c@x.example": PENDING}
    assert server.mails == [(["a@x.example"], MAIL.replace(b"\r\n.a", b"\r\n..a"))]


async def test_a_mail_refused_after_its_content_is_accepted_for_nobody(server: ScriptedMail) -> None:
    server.replies["CONTENT"] = "554 spam"
    server.replies["RCPT"] = lambda line: "450 later" if "b@" in line else "250 OK"
    async with transport_to(server.port) as transport:
        outcomes = await transport.send(["a@x.example", "b@x.example"], MAIL)

    assert states(outcomes) == {"a@x.example": REFUSED, "b@x.example": PENDING}


async def test_connections_are_kept_between_mails_and_replaced_when_the_server_closed_them(server: ScriptedMail) -> None:
    async with transport_to(server.port) as transport:
        for _ in range(5):
            assert states(await transport.send(["a@x.example"], MAIL)) == {"a@x.example": ACCEPTED}
        assert server.connections == 1

        server.replies["MAIL"] = lambda _line: server.replies.pop("MAIL") and "421 idle too long"
        assert states(await transport.send(["a@x.example"], MAIL)) == {"a@x.example": ACCEPTED}
    assert server.connections == 2
    assert len(server.mails) == 6


async def test_a_connection_lost_after_the_content_is_not_repeated_at_once(server: ScriptedMail) -> None:
    async with transport_to(server.port) as transport:
        await transport.send(["a@x.example"], MAIL)
        server.replies["CONTENT"] = CLOSE
        outcomes = await transport.send(["a@x.example"], MAIL)

    assert states(outcomes) == {"a@x.example": UNKNOWN}
    assert sum(command == "DATA" for command in server.commands) == 2


async def test_no_more_connections_than_allowed(server: ScriptedMail) -> None:
    async with transport_to(server.port, connections=2) as transport:
        outcomes = await asyncio.gather(*(transport.send(["a@x.example"], MAIL) for _ in range(20)))

    assert all(states(found) == {"a@x.example": ACCEPTED} for found in outcomes)
    assert server.connections <= 2
    assert len(server.mails) == 20


@pytest.mark.parametrize("address", ["a@b.example\r\nRCPT TO:<evil@x.example>", "a@b.example>\r\nDATA", "a b@c", "é@x.example"])
async def test_an_odd_address_is_refused_and_smuggles_nothing(server: ScriptedMail, address: str) -> None:
    async with transport_to(server.port) as transport:
        outcomes = await transport.send([address, "a@x.example"], MAIL)

    assert states(outcomes)["a@x.example"] in (ACCEPTED, PENDING)
    assert states(outcomes)[address] is not ACCEPTED or address not in str(server.mails)
    assert all("evil@x.example" not in recipients for recipients, _ in server.mails)
    assert not any(command.startswith("RCPT TO:<evil") for command in server.commands)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """The TLS of a server with a certificate for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """The TLS of a client that trusts the test's authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_tls_is_used_and_credentials_go_only_there(authority: trustme.CA, security: str) -> None:
    extensions = ("SIZE 50000000", "AUTH PLAIN LOGIN", *(("STARTTLS",) if security == "starttls" else ()))
    tls = server_context(authority, "localhost")
    async with (
        ScriptedMail(tls=tls, implicit=security == "tls", extensions=extensions) as server,
        transport_to(
            server.port, security=security, tls_context=client_context(authority), username="u", password="s3cr3t"
        ) as transport,
    ):
        outcomes = await transport.send(["a@x.example"], MAIL)

    assert states(outcomes) == {"a@x.example": ACCEPTED}
    verbs = [command.split(" ")[0].upper() for command in server.commands]
    assert "AUTH" in verbs
    assert security == "tls" or verbs.index("STARTTLS") < verbs.index("AUTH")


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_certificate_for_another_name_or_of_nobody_is_not_trusted(authority: trustme.CA, security: str) -> None:
    for tls, client in (
        (server_context(authority, "other.example"), client_context(authority)),
        (server_context(trustme.CA(), "localhost"), client_context(authority)),
    ):
        async with (
            ScriptedMail(tls=tls, implicit=security == "tls", extensions=("STARTTLS",)) as server,
            transport_to(server.port, security=security, tls_context=client) as transport,
        ):
            (outcome,) = await transport.send(["a@x.example"], MAIL)
        assert outcome.state is PENDING
        assert "certificate" in outcome.reply
        assert server.mails == []


async def test_a_server_that_offers_no_starttls_gets_no_mail_in_clear(server: ScriptedMail) -> None:
    async with transport_to(server.port, security="starttls", tls_context=ssl.create_default_context()) as transport:
        (outcome,) = await transport.send(["a@x.example"], MAIL)

    assert outcome.state is PENDING
    assert not any(command.startswith("MAIL") for command in server.commands)


async def test_wrong_credentials_are_our_fault_and_not_repeated_in_the_outcome() -> None:
    async with ScriptedMail(extensions=("AUTH PLAIN",)) as server:
        server.replies["AUTH"] = lambda line: f"535 5.7.8 no: {line} s3cr3t"
        async with transport_to(server.port, username="u", password="s3cr3t") as transport:
            (outcome,) = await transport.send(["a@x.example"], MAIL)
            probed = await transport.probe()

    assert outcome.state is PENDING
    assert "user name or the password" in outcome.reply
    assert "s3cr3t" not in outcome.reply + probed
    assert probed


async def test_the_probe_says_what_is_wrong_and_sends_nothing(server: ScriptedMail, unused_port: int) -> None:
    async with transport_to(server.port) as transport:
        assert await transport.probe() == ""
    async with transport_to(unused_port) as transport:
        assert await transport.probe()
    assert not any(command.startswith("MAIL") for command in server.commands)


async def test_a_reply_of_a_hostile_server_is_cleaned(server: ScriptedMail) -> None:
    server.replies["RCPT"] = "550 \x1b[31mred \u202e" + "x" * 400
    async with transport_to(server.port) as transport:
        (outcome,) = await transport.send(["a@x.example"], MAIL)

    assert outcome.state is REFUSED
    assert len(outcome.reply) <= 300
    assert outcome.reply.isprintable()


async def test_a_mail_of_the_standard_library_passes_as_well(server: ScriptedMail) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@b.example", "c@d.example", "x"
    mail.set_content("hello\n.\nworld\n")
    async with transport_to(server.port) as transport:
        (outcome,) = await transport.send(["c@d.example"], mail.as_bytes())

    assert outcome.state is ACCEPTED
    assert b"world" in server.mails[0][1]
