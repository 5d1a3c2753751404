"""What notices say, as mails of plain text."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.addressing import MailboxAddress
from app.notifications.mail.compose import local_time, mailbox_in_words, text_part, write_headers, zone_in_words
from app.notifications.mail.sender import Sender
from app.notifications.notices.model import Missed
from app.text import caller, clock

MOST_IN_DIGEST = 100  # messages that a digest tells of one by one


def dropped_mail(mailbox: MailboxAddress, *, to: str, sender: Sender, message_id: str) -> bytes:
    """The mail to an address that a mailbox has no more. It names nobody and nothing new."""
    box = mailbox_in_words(mailbox)
    text = (
        f"Voicemail of mailbox {box} no longer goes to this address.\n\n"
        "If you did not expect this, ask the administrator of your phone system.\n"
    )
    return _mail(f"Voicemail of mailbox {mailbox_in_words(mailbox)} no longer goes to this address", text, to, sender, message_id)


def digest_mail(
    mailbox: MailboxAddress, missed: Sequence[Missed], count: int, *, zone: ZoneInfo, to: str, sender: Sender, message_id: str
) -> bytes:
    """The mail that tells of ``count`` messages without their recordings; ``missed``: the oldest of them."""
    box = mailbox_in_words(mailbox)
    messages = "1 more voicemail" if count == 1 else f"{count} more voicemails"
    rows = "".join(f"{_line(one, zone)}\n" for one in missed)
    further = f"… and {count - len(missed)} more\n" if count > len(missed) else ""
    text = (
        f"Mailbox {box} received {messages}. There were too many within an hour to send each by mail,\n"
        "so the recordings are not attached. They stay in the mailbox: you can listen to them by phone.\n\n"
        f"{rows}{further}"
    )
    return _mail(f"{messages[0].upper()}{messages[1:]} for mailbox {box}", text, to, sender, message_id)


def _line(one: Missed, zone: ZoneInfo) -> str:
    local = local_time(one.created_epoch, zone)
    when = f"{local.day} {local:%B %Y}, {local:%H:%M:%S} ({zone_in_words(local, zone)})"
    return f"- {when}: {caller(one.caller_name, one.caller_number)}, {clock(one.duration)}"


def _mail(subject: str, text: str, to: str, sender: Sender, message_id: str) -> bytes:
    replies = "" if sender.reply_to else " Nobody reads replies to this address."
    mail = text_part("plain", f"{text}\n-- \nSent by the phone system.{replies}\n")
    write_headers(mail, sender, [to], subject=subject, message_id=message_id, date=datetime.now(UTC))
    return mail.as_bytes()
