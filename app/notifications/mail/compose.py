"""The mail about one message: text, HTML and the recording, as the bytes that go to the mail server.

Headers and text are the standard library's work. Its generator needs some 25 ms for a recording of half a megabyte, so it writes
a marker in the recording's place, and the recording takes that place already encoded at the speed of C.
"""

import binascii
import html
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.header import Header
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime
from pathlib import Path, PurePosixPath
from string import Template
from zoneinfo import ZoneInfo

from app.addressing import MailboxAddress
from app.notifications.mail.sender import LONGEST_NAME, NAME, Sender
from app.text import caller, clock, one_line, unlinked

LARGEST_RECORDING = 18_000_000  # bytes: a mail of 25 MB, which is what the large providers take
_TEMPLATES = Path(__file__).parent / "templates"
_TYPES = {
    ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
    ".flac": "audio/flac", ".m4a": "audio/mp4", ".mp4": "audio/mp4", ".au": "audio/basic", ".gsm": "audio/x-gsm",
}  # fmt: skip
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_NO_FILE_NAME = re.compile(r"[^0-9A-Za-z._-]")
_UTF8 = Charset("utf-8")
_UTF8.body_encoding = QP  # the library's own choice, base64, costs a text mail some points of spam
_LINE = 76
# What is long is folded here, because the library would also fold a Message-ID, which some servers then do not recognise.
_POLICY = compat32.clone(linesep="\r\n", max_line_length=998)
_LATEST = 2**32  # seconds since 1970; the switch's clock has 31 bits


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says. The caller's name and number and the description may be any text."""

    message_id: str  # the header's value, with its angle brackets
    recipients: Sequence[str]  # as ``ascii_address`` gives them
    caller_name: str
    caller_number: str
    created_epoch: int  # seconds since 1970
    duration: int  # seconds
    mailbox: MailboxAddress
    description: str
    zone: ZoneInfo
    deleted_afterwards: bool  # this mail will be the only copy
    sender: Sender | None = None  # None: the composer's
    listed: bool = True  # the phone has the message, as long as it is not deleted


@dataclass(frozen=True, slots=True)
class Audio:
    """The recording that goes with a mail. Without content, ``missing`` tells the reader why."""

    name: str  # the file's name on disk; only its suffix is used
    content: bytes | None
    missing: str = ""


class Composer:
    """Makes mails. Safe to call from any thread."""

    def __init__(self, *, sender: str, name: str = NAME) -> None:
        """The sender of letters that have none of their own: an address as ``ascii_address`` gives it, and its name, any text."""
        self._sender = Sender(sender, one_line(name, LONGEST_NAME) or NAME)
        self._text = _template("voicemail.txt")
        self._html = _template("voicemail.html")

    def compose(self, letter: Letter, audio: Audio, *, now: datetime | None = None) -> bytes:
        """The mail, ready for SMTP: ASCII, lines of at most 998 bytes that end in CRLF. ``now`` is its Date."""
        mail = MIMEMultipart("mixed", policy=_POLICY)
        subject = f"Voicemail from {caller(letter.caller_name, letter.caller_number)}, {clock(letter.duration)}"
        sender = letter.sender or self._sender
        date = now or datetime.now(UTC)
        write_headers(mail, sender, letter.recipients, subject=subject, message_id=letter.message_id, date=date)
        mail.attach(self._body(letter, audio))
        if audio.content is None:
            return mail.as_bytes()
        marker = secrets.token_hex(16)
        mail.attach(_attachment(letter, audio.name, marker))
        head, _, tail = mail.as_bytes().partition(marker.encode("ascii"))
        return head + base64_lines(audio.content) + tail

    def _body(self, letter: Letter, audio: Audio) -> MIMEMultipart:
        facts = _facts(letter) | {"footer": _footer(letter.sender or self._sender)}
        note = audio.missing or _note(letter)
        plain = self._text.substitute(facts, note=note)
        rich = self._html.substitute({name: html.escape(value) for name, value in facts.items()}, note=html.escape(note))
        return MIMEMultipart("alternative", _subparts=[text_part("plain", plain), text_part("html", rich)], policy=_POLICY)


def write_headers(
    mail: MIMEBase, sender: Sender, recipients: Sequence[str], *, subject: str, message_id: str, date: datetime
) -> None:
    """The headers that every mail of the service has. ``subject`` is one line of any text."""
    mail["From"] = sender.from_header
    if sender.reply_to:
        mail["Reply-To"] = sender.reply_to
    mail["To"] = ",\r\n ".join(recipients)
    mail["Subject"] = unstructured(subject, "Subject")
    mail["Date"] = format_datetime(date)
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"


def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8"))


def _facts(letter: Letter) -> dict[str, str]:
    description = one_line(letter.description, 120)
    return {
        "subject": f"Voicemail from {caller(letter.caller_name, letter.caller_number)}",
        "caller": caller(letter.caller_name, letter.caller_number),
        "received": _when(letter),
        "duration": clock(letter.duration),
        "mailbox": mailbox_in_words(letter.mailbox) + (f" ({description})" if description else ""),
    }


def mailbox_in_words(mailbox: MailboxAddress) -> str:
    """``101 at lab.local``: with @ mail readers take it for a mail address. An extension may look like a host name."""
    return f"{unlinked(mailbox.extension)} at {mailbox.domain}"


def _footer(sender: Sender) -> str:
    return "Sent by the phone system." if sender.reply_to else "Sent by the phone system. Nobody reads replies to this address."


def _note(letter: Letter) -> str:
    if letter.deleted_afterwards:
        return (
            "The recording is attached. The message is removed from the mailbox once this mail is delivered:"
            " keep this mail to keep the recording."
        )
    if not letter.listed:
        return (
            "The recording is attached. The phone system does not list this message any more:"
            " keep this mail to keep the recording."
        )
    return "The recording is attached. The message also stays in the mailbox: you can still listen to it by phone."


def _local(letter: Letter) -> datetime:
    return local_time(letter.created_epoch, letter.zone)


def local_time(epoch: int, zone: ZoneInfo) -> datetime:
    """The time of a message in a time zone; a time that no clock of the switch can have had is cut."""
    return datetime.fromtimestamp(min(max(epoch, 0), _LATEST), zone)


def _when(letter: Letter) -> str:
    local = _local(letter)
    return f"{local:%A}, {local.day} {local:%B %Y}, {local:%H:%M:%S} ({zone_in_words(local, letter.zone)})"


def zone_in_words(local: datetime, zone: ZoneInfo) -> str:
    """``Ho Chi Minh time, UTC+07:00``, or ``UTC``; of a zone that is no city's only the offset."""
    offset = local.strftime("%z")
    shown = "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:5]}"
    area, _, city = zone.key.rpartition("/")
    return f"{city.replace('_', ' ')} time, {shown}" if area and not area.startswith("Etc") else shown


def _attachment(letter: Letter, name: str, marker: str) -> MIMEBase:
    suffix = PurePosixPath(name).suffix.lower()
    suffix = suffix if _SUFFIX.fullmatch(suffix) else ".bin"
    extension = _NO_FILE_NAME.sub("_", letter.mailbox.extension)
    shown = f"voicemail-{extension}-{_local(letter):%Y%m%d-%H%M%S}{suffix}"
    kind, _, subtype = _TYPES.get(suffix, "application/octet-stream").partition("/")
    part = MIMEBase(kind, subtype, policy=_POLICY, name=shown)
    part.add_header("Content-Disposition", "attachment", filename=shown)
    part["Content-Transfer-Encoding"] = "base64"
    part.set_payload(marker)
    return part


def base64_lines(content: bytes) -> bytes:
    """``content`` in base64, 76 characters a line."""
    encoded = binascii.b2a_base64(content, newline=False)
    return b"\r\n".join([encoded[start : start + 76] for start in range(0, len(encoded), 76)])


def text_part(subtype: str, text: str) -> MIMENonMultipart:
    """A part of text, or a mail of text alone. ``subtype`` is plain or html."""
    part = MIMENonMultipart("text", subtype, policy=_POLICY, charset="utf-8")
    # The library raises on half a surrogate pair.
    part.set_payload(text.encode("utf-8", "replace").decode("utf-8"), _UTF8)
    return part


def unstructured(text: str, name: str) -> str:
    """The value of the unstructured header ``name``, in encoded words (RFC 2047) if needed. The caller made ``text`` one line."""
    # The library writes "=?" as it stands, and a reader would decode what follows.
    if text.isascii() and "=?" not in text and len(text) <= _LINE - len(name) - 2:
        return text
    return _encoded(Header(text, "utf-8", header_name=name))


def _encoded(header: Header) -> str:
    return header.encode(linesep="\r\n", maxlinelen=_LINE)
