"""The mail about one message: text, HTML and the recording, as the bytes that go to the mail server.

The standard library's generator needs some 18 ms for half a megabyte, on the event loop's core. So the few headers, all of which
are made here, are written out, and the recording is encoded at the speed of C.
"""

import binascii
import html
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path, PurePosixPath
from string import Template
from zoneinfo import ZoneInfo

from app.addressing import MailboxAddress
from app.notifications.mail.sender import Sender
from app.text import caller, clock, header_text, one_line

LARGEST_RECORDING = 18_000_000  # bytes: a mail of 25 MB, which is what the large providers take
_TEMPLATES = Path(__file__).parent / "templates"
_TYPES = {
    ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
    ".flac": "audio/flac", ".m4a": "audio/mp4", ".mp4": "audio/mp4", ".au": "audio/basic", ".gsm": "audio/x-gsm",
}  # fmt: skip
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_NO_FILE_NAME = re.compile(r"[^0-9A-Za-z._-]")
_TELEPHONE = re.compile(r"\+?[0-9]{3,20}")
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

    def __init__(self, *, sender: str) -> None:
        """``sender``: the address of letters that have no sender of their own."""
        self._sender = Sender(sender)
        self._text = _template("voicemail.txt")
        self._html = _template("voicemail.html")
        self._row = _template("row.html")

    def compose(self, letter: Letter, audio: Audio, *, now: datetime | None = None) -> bytes:
        """The mail, ready for SMTP: ASCII, lines of at most 998 bytes that end in CRLF. ``now`` is its Date."""
        subject = f"Voicemail from {caller(letter.caller_name, letter.caller_number)}, {clock(letter.duration)}"
        mixed, alternative = _boundary(), _boundary()
        sender = letter.sender or self._sender
        headers = [
            ("From", sender.from_header),
            *([("Reply-To", sender.reply_to)] if sender.reply_to else []),
            ("To", ",\r\n ".join(letter.recipients)),
            ("Subject", header_text(subject)),
            ("Date", format_datetime(now or datetime.now(UTC))),
            ("Message-ID", letter.message_id),
            ("Auto-Submitted", "auto-generated"),
            ("X-Auto-Response-Suppress", "All"),
            ("MIME-Version", "1.0"),
            ("Content-Type", f'multipart/mixed; boundary="{mixed}"'),
        ]
        parts = [
            _part([("Content-Type", f'multipart/alternative; boundary="{alternative}"')], self._body(letter, audio, alternative)),
        ]
        if audio.content is not None:
            parts.append(_attachment(letter, audio.name, audio.content))
        return _part(headers, _multipart(mixed, parts))

    def _body(self, letter: Letter, audio: Audio, boundary: str) -> bytes:
        facts = _facts(letter)
        note = audio.missing or _note(letter)
        number = one_line(letter.caller_number, 40)
        plain = self._text.substitute(facts, note=note)
        rows = [("Received", html.escape(facts["received"])), ("Mailbox", html.escape(facts["mailbox"]))]
        if _TELEPHONE.fullmatch(number):
            rows.insert(0, ("Number", f'<a href="tel:{number}" style="color:#0b69a3;">{number}</a>'))
        rich = self._html.substitute(
            {name: html.escape(value) for name, value in facts.items()},
            note=html.escape(note),
            rows="".join(self._row.substitute(name=name, value=value) for name, value in rows),
        )
        return _multipart(boundary, [_text_part("plain", plain), _text_part("html", rich)])


def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8"))


def _facts(letter: Letter) -> dict[str, str]:
    description = one_line(letter.description, 120)
    return {
        "subject": f"Voicemail from {caller(letter.caller_name, letter.caller_number)}",
        "caller": caller(letter.caller_name, letter.caller_number),
        "received": _when(letter),
        "duration": clock(letter.duration),
        "mailbox": f"{letter.mailbox} ({description})" if description else str(letter.mailbox),
    }


def _note(letter: Letter) -> str:
    if letter.deleted_afterwards:
        return "The recording is attached. It is removed from the mailbox after this mail: keep the mail if you want to keep it."
    if not letter.listed:
        return "The recording is attached. The telephone system does not list this message any more; keep the mail to keep it."
    return "The recording is attached. It also stays in the mailbox, where your phone plays it."


def _local(letter: Letter) -> datetime:
    return datetime.fromtimestamp(min(max(letter.created_epoch, 0), _LATEST), letter.zone)


def _when(letter: Letter) -> str:
    local = _local(letter)
    offset = local.strftime("%z")
    return f"{local:%A}, {local.day} {local:%B %Y}, {local:%H:%M:%S} ({letter.zone.key}, UTC{offset[:3]}:{offset[3:5]})"


def _attachment(letter: Letter, name: str, content: bytes) -> bytes:
    suffix = PurePosixPath(name).suffix.lower()
    suffix = suffix if _SUFFIX.fullmatch(suffix) else ".bin"
    extension = _NO_FILE_NAME.sub("_", letter.mailbox.extension)
    shown = f"voicemail-{extension}-{_local(letter):%Y%m%d-%H%M%S}{suffix}"
    return _part(
        [
            ("Content-Type", f'{_TYPES.get(suffix, "application/octet-stream")};\r\n name="{shown}"'),
            ("Content-Disposition", f'attachment;\r\n filename="{shown}"'),
            ("Content-Transfer-Encoding", "base64"),
        ],
        base64_lines(content),
    )


def base64_lines(content: bytes) -> bytes:
    """``content`` in base64, 76 characters a line."""
    encoded = binascii.b2a_base64(content, newline=False)
    return b"\r\n".join([encoded[start : start + 76] for start in range(0, len(encoded), 76)])


def _text_part(subtype: str, text: str) -> bytes:
    lines = text.encode("utf-8", "replace").replace(b"\n", b"\r\n")
    headers = [("Content-Type", f'text/{subtype}; charset="utf-8"'), ("Content-Transfer-Encoding", "quoted-printable")]
    return _part(headers, binascii.b2a_qp(lines, istext=True))


def _part(headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return head.encode("ascii") + b"\r\n" + body


def _multipart(boundary: str, parts: Sequence[bytes]) -> bytes:
    line = b"--" + boundary.encode("ascii")
    return b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def _boundary() -> str:
    # Neither base64 nor quoted-printable can hold "=_".
    return f"=_{secrets.token_hex(16)}"
