"""Who a mail is from: what a domain says of itself reaches the headers and can do nothing else there."""

from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domains import fields
from app.domains.model import DomainSettings
from app.notifications.mail.compose import Audio, Composer
from app.notifications.mail.sender import Sender
from app.text import one_line
from tests.unit.test_mail_composition import HEADERS, letter

SERVICE = "voicemail@lab.local"


def composed(**domain: Any) -> tuple[bytes, EmailMessage]:
    """A mail of a domain with these settings, as bytes and as a reader sees it."""
    sender = Sender.of_domain(DomainSettings(**domain), SERVICE)
    raw = Composer(sender=SERVICE).compose(letter(sender=sender), Audio("m.wav", b"RIFF"))
    parsed = BytesParser(policy=default).parsebytes(raw)
    assert isinstance(parsed, EmailMessage)
    return raw, parsed


def said(mail: bytes) -> tuple[str, str]:
    """The name and address of From. The parser of the standard library puts a space between encoded words, and RFC 2047 none."""
    (sender,) = BytesParser(policy=default).parsebytes(mail)["From"].addresses
    name, _, address = str(make_header(decode_header(message_from_bytes(mail)["From"]))).rpartition("<")
    assert address == f"{sender.addr_spec}>"
    return name.strip(), sender.addr_spec


def test_a_domain_without_settings_has_the_service_s_sender() -> None:
    _, mail = composed()

    assert mail["From"] == "Voicemail <voicemail@lab.local>"
    assert set(mail.keys()) == HEADERS


def test_each_setting_stands_alone() -> None:
    assert said(composed(mail_from="post@a.example")[0]) == ("Voicemail", "post@a.example")
    assert said(composed(mail_from_name="Front Desk")[0]) == ("Front Desk", SERVICE)
    raw, mail = composed(reply_to="answers@a.example")
    assert (said(raw), mail["Reply-To"]) == (("Voicemail", SERVICE), "answers@a.example")


NAMES = [
    "Büro, Nord", '"Boss" <boss@example.com>', "=?utf-8?q?Boss?=", "a, b; c: d", "(comment) x", "back\\slash", "🎉" * 100, "é" * 100,
    "n" * 100, "Tổng đài Hà Nội", "a.b", "@", "a  b", "%0ABcc: x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_that_a_domain_may_have_reads_back_and_bends_nothing(name: str) -> None:
    assert fields.sender_name(name) == name

    raw, mail = composed(mail_from_name=name, mail_from="post@a.example")

    assert said(raw) == (" ".join(name.split()), "post@a.example")
    assert set(mail.keys()) == HEADERS
    head = raw.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert max(len(line) for line in head.split(b"\r\n")) <= 100


@pytest.mark.parametrize("field", ["mail_from", "mail_from_name", "reply_to"])
@pytest.mark.parametrize(
    "text",
    [
        "x\r\nBcc: everyone@example.com", "a@b.example\r\nBcc: c@d.example", "a@b.example, c@d.example", "a@b.example>\nX: y",
        "\0", "\u202e", "\u2028x\u2029", "a b@c.example", "<a@b.example>", "@", "\ud800", "n" * 100_000, "\x1b]0;t\x07", "@a@b.example",
    ],
    ids=range(14),
)  # fmt: skip
def test_what_no_domain_may_have_bends_nothing_either(field: str, text: str) -> None:
    """It cannot come by the API; somebody may write it into the table."""
    raw, mail = composed(**{field: text})

    assert set(mail.keys()) == HEADERS
    assert said(raw)[1] == SERVICE
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


@settings(max_examples=150, deadline=None)
@given(name=st.text(max_size=300))
def test_any_text_as_a_name_reads_back_as_one_line(name: str) -> None:
    raw, mail = composed(mail_from_name=name)

    assert said(raw) == (one_line(name, 100) or "Voicemail", SERVICE)
    assert set(mail.keys()) == HEADERS
