"""A mail says what a reader needs, holds the recording bit for bit, and no caller can bend it."""

import html
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.addressing import Domain, Extension, MailboxAddress
from app.notifications.mail.compose import Audio, Composer, Letter
from app.notifications.mail.sender import LONGEST_NAME, NAME, Sender
from app.text import ascii_address, caller, clock, one_line

SAMPLE = next((Path(__file__).parents[2] / "app/sandbox/recordings").glob("*.wav")).read_bytes()
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version", "Content-Type",
}  # fmt: skip


def letter(**fields: Any) -> Letter:
    """What a mail says, with these fields otherwise."""
    usual: dict[str, Any] = {
        "message_id": "<0c9b@lab.local>",
        "recipients": ["tech@example.com"],
        "caller_name": "Alice",
        "caller_number": "0891234567",
        "created_epoch": 1_630_037_624,
        "duration": 78,
        "mailbox": MailboxAddress(Extension("101"), Domain("lab.local")),
        "description": "For Tech",
        "zone": ZoneInfo("Asia/Ho_Chi_Minh"),
        "deleted_afterwards": False,
    }
    return Letter(**usual | fields)


def composed(audio: Audio | None = None, **fields: Any) -> tuple[bytes, EmailMessage]:
    """A mail as bytes, and as a mail reader sees it."""
    mail = Composer(sender="voicemail@lab.local").compose(letter(**fields), audio or Audio("msg_1.wav", SAMPLE), now=NOW)
    parsed = BytesParser(policy=default).parsebytes(mail)
    assert isinstance(parsed, EmailMessage)
    return mail, parsed


def text_of(mail: EmailMessage, kind: str) -> str:
    """The text or the HTML of a mail."""
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def test_it_says_who_called_when_for_whom_and_how_long() -> None:
    _, mail = composed()

    assert mail["Subject"] == "Voicemail from Alice (0891234567), 1:18"
    assert mail["From"] == "Voicemail <voicemail@lab.local>"
    assert mail["To"] == "tech@example.com"
    assert mail["Message-ID"] == "<0c9b@lab.local>"
    assert mail["Date"].datetime == NOW
    assert mail["Auto-Submitted"] == "auto-generated"
    for kind in ("plain", "html"):
        text = text_of(mail, kind)
        for fact in (
            "Alice",
            "0891234567",
            "27 August 2021",
            "11:13:44",
            "Ho Chi Minh time, UTC+07:00",
            "1:18",
            "101 at lab.local",
            "For Tech",
        ):
            assert fact in text, (kind, fact)


def test_the_recording_is_attached_bit_for_bit() -> None:
    _, mail = composed()

    (attachment,) = mail.iter_attachments()

    assert attachment.get_content_type() == "audio/wav"
    assert attachment.get_filename() == "voicemail-101-20210827-111344.wav"
    assert attachment.get_content() == SAMPLE


def test_a_reader_is_told_where_the_mail_will_be_the_only_copy() -> None:
    _, kept = composed()
    _, removed = composed(deleted_afterwards=True)

    assert "stays in the mailbox" in text_of(kept, "plain")
    assert "removed from the mailbox" in text_of(removed, "plain")
    assert "removed from the mailbox" in text_of(removed, "html")


def test_without_a_recording_the_mail_says_why() -> None:
    _, mail = composed(Audio("msg_1.wav", None, "The recording is not attached: it is too large to be mailed (30.0 MB)."))

    assert list(mail.iter_attachments()) == []
    assert "too large to be mailed" in text_of(mail, "plain")


def test_several_recipients_stand_in_one_header() -> None:
    addresses = [f"person{number}@a-rather-long-domain-name.example.com" for number in range(20)]

    raw, mail = composed(recipients=addresses)

    assert [str(address.addr_spec) for address in mail["To"].addresses] == addresses
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


HOSTILE = [
    "x %0AVM-User: 102", "a\r\nBcc: everyone@example.com", "a\nb\n\nbody", "\0", "=?utf-8?q?Bcc=3A?= x", '"quoted" <boss@example.com>',
    "</td><script>alert(1)</script>", "${hostname} $$ $note", "🎉" * 255, "\u202egnp.exe\u2066x", "\ud800", "--=_boundary", "\u2028x\u2029",
    "n" * 100_000, "\x1b]0;title\x07", "é" * 60, ".", "\r\n.\r\n",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("field", ["caller_name", "caller_number", "description"])
def test_no_text_bends_the_mail(field: str, text: str) -> None:
    raw, mail = composed(**{field: text})

    assert set(mail.keys()) == HEADERS
    assert mail["To"] == "tech@example.com"
    assert len(mail["Subject"]) < 200
    assert "\n" not in mail["Subject"]
    assert "\u202e" not in mail["Subject"] + text_of(mail, "plain") + text_of(mail, "html")
    assert "<script>" not in text_of(mail, "html")
    (attachment,) = mail.iter_attachments()
    assert attachment.get_content() == SAMPLE
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert raw.replace(b"\r\n", b"").count(b"\n") == raw.replace(b"\r\n", b"").count(b"\r") == 0


@settings(max_examples=150, deadline=None)
@given(name=st.text(max_size=300), number=st.text(max_size=60), description=st.text(max_size=300))
def test_any_text_makes_a_mail_that_reads_back(name: str, number: str, description: str) -> None:
    raw, mail = composed(Audio("m.wav", b"RIFF"), caller_name=name, caller_number=number, description=description)

    assert set(mail.keys()) == HEADERS
    assert mail["Subject"].startswith("Voicemail from ")
    assert str(mail["Subject"]) == f"Voicemail from {caller(name, number)}, 1:18"
    (attachment,) = mail.iter_attachments()
    assert attachment.get_content() == b"RIFF"
    assert raw.isascii()


NAMES = [
    "Voicemail", "Zoë", "Thư thoại của công ty", "🎉" * 40, 'Bob "the" <boss@example.com>', "a, b; c: d", "=?utf-8?q?Bcc=3A?= x", "\ud800 half",
    "a\0b", "x\r\nBcc: everyone@example.com", "n" * 500, "é" * 500, "", "(comment)", "\u202egnp.exe", "a\u2028b", "\\",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_of_the_sender_reads_back(name: str) -> None:
    raw = Composer(sender="voicemail@lab.local", name=name).compose(letter(), Audio("m.wav", b"RIFF"), now=NOW)

    # Python's newer reader puts spaces between encoded words (gh-92081), so this is the older one.
    mail = BytesParser().parsebytes(raw)
    shown, address = parseaddr(mail["From"])
    assert address == "voicemail@lab.local"
    assert str(make_header(decode_header(shown))) == (one_line(name, LONGEST_NAME) or NAME)
    assert set(mail.keys()) == HEADERS
    assert mail.defects == []
    # RFC 5322 wishes for 78 and allows 998: an address cannot be folded.
    assert max(map(len, headers_of(raw))) <= 140


@settings(max_examples=50, deadline=None)
@given(name=st.text(max_size=200))
def test_any_text_names_the_sender(name: str) -> None:
    test_any_name_of_the_sender_reads_back(name)


def headers_of(raw: bytes) -> list[bytes]:
    """The lines of a mail's own headers."""
    return raw.partition(b"\r\n\r\n")[0].split(b"\r\n")


@pytest.mark.parametrize("name", ["🎉" * 60, "é" * 60, "=?utf-8?q?Bcc=3A?= x", "long words " * 5, "x" * 60, "a\0b", "\ud800"])
def test_a_subject_reads_back_from_lines_that_every_server_takes(name: str) -> None:
    """RFC 2047: an encoded word has at most 75 characters, and no character is torn in two."""
    raw, mail = composed(Audio("m.wav", b"RIFF"), caller_name=name)

    assert str(mail["Subject"]) == f"Voicemail from {caller(name, '0891234567')}, 1:18"
    lines = headers_of(raw)
    assert max(map(len, lines)) <= 78
    assert all(len(word) <= 75 for line in lines for word in line.split() if word.startswith(b"=?"))
    assert all(line.isascii() and b"\0" not in line for line in lines)


def test_a_long_message_id_stands_whole_on_one_line() -> None:
    id_ = f"<{'a' * 36}@{'.'.join(['d' * 60] * 4)}>"

    raw, mail = composed(Audio("m.wav", b"RIFF"), message_id=id_)

    assert mail["Message-ID"] == id_
    assert f"Message-ID: {id_}".encode() in headers_of(raw)


def test_a_recording_that_looks_like_a_mail_is_only_a_recording() -> None:
    content = b"\r\n--===============\r\nContent-Type: text/html\r\n\r\n<script>\r\n.\r\n" * 100

    _, mail = composed(Audio("m.wav", content))

    (attachment,) = mail.iter_attachments()
    assert attachment.get_content() == content
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "audio/wav",
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=5000))
def test_any_recording_arrives_bit_for_bit(content: bytes) -> None:
    _, mail = composed(Audio("m.wav", content))

    (attachment,) = mail.iter_attachments()
    assert attachment.get_content() == content


@pytest.mark.parametrize(
    ("name", "number", "shown"),
    [
        ("Alice", "089", "Alice (089)"), ("", "089", "089"), ("089", "089", "089"), ("anonymous", "anonymous", "an unknown caller"),
        ("", "", "an unknown caller"), ("Alice", "", "Alice"), ("unknown", "089", "089"), (" A  b ", "1", "A b (1)"),
    ],
)  # fmt: skip
def test_who_called_in_words(name: str, number: str, shown: str) -> None:
    assert caller(name, number) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (7, "0:07"), (78, "1:18"), (3723, "1:02:03"), (-1, "0:00")])
def test_how_long_in_words(seconds: int, shown: str) -> None:
    assert clock(seconds) == shown


@pytest.mark.parametrize("epoch", [-(2**31), 0, 2**31 - 1, 2**62])
def test_any_time_makes_a_mail(epoch: int) -> None:
    _, mail = composed(created_epoch=epoch)

    assert "UTC" in text_of(mail, "plain")


@pytest.mark.parametrize(
    "address", ["a@b.example\r\nRCPT TO:<x@y>", "a b@c.example", "<a@b.example>", "a@b@c", "", "@", "a@", "a\0@b.example"]
)
def test_what_is_no_address_is_never_sent_to(address: str) -> None:
    assert ascii_address(address) is None


def test_an_international_domain_goes_out_in_ascii() -> None:
    assert ascii_address("a@bücher.example") == "a@xn--bcher-kva.example"


# Harsher than any mail reader: a scheme or www., or a host name with a top-level domain of two letters or more, or a mail address.
LINK = re.compile(
    r"[a-z][a-z0-9+.-]*:\S|(?:^|\W)www\.|\w[.。．｡][^\W\d_]{2,}|\S@\S|\\\\\S|\b\d{1,3}(?:\.\d{1,3}){3}\b", re.IGNORECASE
)
LURES = [
    "http://evil.example", "HTTPS://EVIL.EXAMPLE/login?x=1", "evil.example", "www.evil", "t.co/x", "mailto:a@evil.example", "a@evil.example",
    "tel:+19005550100", "sip:1@evil.example", "javascript:alert(1)", "пример.рф", "xn--e1afmkfd.xn--p1ai", "evil。example", "ｅｖｉｌ．ｃｏｍ",
    "evil\u200d.example", "evil.\u200bexample", "ev\u00adil.example", "//evil.example", r"\\evil\share", "192.0.2.1", "http:\u200c//192.0.2.1/x",
    "x.evil.example.", "(evil.example)", "Call evil.example now", "file:///etc/passwd", "<a href=http://evil.example>x</a>", "ftp.evil.example:21",
    "http:\n//evil.example", "a.a.a.com", "x" * 22 + ".evil.example", "a@b.cd," * 20,
]  # fmt: skip


@pytest.mark.parametrize("lure", LURES, ids=range(len(LURES)))
@pytest.mark.parametrize("field", ["caller_name", "caller_number"])
def test_nothing_that_a_caller_sends_becomes_a_link(field: str, lure: str) -> None:
    shown = caller(lure, "") if field == "caller_name" else caller("", lure)
    _, mail = composed(Audio("m.wav", b"RIFF"), **{field: lure})

    assert LINK.search(lure.translate(dict.fromkeys((0x200B, 0x200C, 0x200D, 0xAD, 0x0A)))), "the pattern knows what it looks for"
    assert not LINK.search(shown), shown
    rich = text_of(mail, "html")
    assert shown in mail["Subject"]
    assert shown in text_of(mail, "plain")
    assert html.escape(shown) in rich
    assert "<a " not in rich
    assert "tel:" not in rich
    assert "[" in shown


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab.:/@w\\。．\u200d 1é рф-_[]()#?"), max_size=80))
def test_no_text_at_all_becomes_a_link(text: str) -> None:
    assert not LINK.search(caller(text, "")), caller(text, "")
    assert not LINK.search(caller("", text)), caller("", text)


@pytest.mark.parametrize(
    "name",
    ["J.R. Ewing", "Dr. Smith", "Nguyễn Văn A.", "A.B", "+84 89 123", "089.123.4567", "Smith & Co.", "Room 3: Desk", "10:30"],
)
def test_a_usual_name_stays_as_it_is(name: str) -> None:
    assert caller(name, "") == name


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("UTC", "(UTC)"), ("Etc/UTC", "(UTC)"), ("Asia/Ho_Chi_Minh", "(Ho Chi Minh time, UTC+07:00)"), ("EST5EDT", "(UTC-04:00)"),
     ("Africa/Abidjan", "(Abidjan time, UTC)"), ("America/Argentina/Buenos_Aires", "(Buenos Aires time, UTC-03:00)")],
)  # fmt: skip
def test_a_time_zone_is_said_once(zone: str, shown: str) -> None:
    _, mail = composed(Audio("m.wav", b"RIFF"), zone=ZoneInfo(zone))

    assert shown in text_of(mail, "plain")
    assert "UTC, UTC" not in text_of(mail, "html")


def test_replies_are_said_to_be_read_only_if_they_go_somewhere() -> None:
    _, deaf = composed(Audio("m.wav", b"RIFF"))
    _, read = composed(Audio("m.wav", b"RIFF"), sender=Sender("voicemail@lab.local", "Voicemail", "desk@lab.local"))

    for kind in ("plain", "html"):
        assert "Nobody reads replies" in text_of(deaf, kind)
        assert "Nobody reads replies" not in text_of(read, kind)


def _contrast(one: str, other: str) -> float:
    """WCAG 2: the ratio of two colours."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        return sum(
            weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_every_text_can_be_read_in_light_and_in_dark() -> None:
    _, mail = composed(Audio("m.wav", b"RIFF"))
    rich = text_of(mail, "html")
    dark = dict(re.findall(r"\.(\w+)\{(?:background-)?color:(#[0-9a-f]{6}) !important", rich))
    texts = re.findall(r'class="(\w+)" style="[^"]*[;"]color:(#[0-9a-f]{6})', rich)

    assert '<meta name="color-scheme" content="light dark">' in rich
    assert len(texts) >= 8
    for name, colour in texts:
        for paper in ("#ffffff", "#f3f5f8"):
            assert _contrast(colour, paper) >= 4.5, (name, colour, paper)
        for paper in (dark["card"], dark["page"]):
            assert _contrast(dark[name], paper) >= 4.5, (name, dark[name], paper)
    assert not re.search(r'<(?:td|div)(?![^>]*class=)[^>]*[;"]color:', rich), "a text without a dark colour"
