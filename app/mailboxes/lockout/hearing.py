"""Logins by phone, as mod_voicemail tells of them: one event for each PIN that it compared, none for a PIN left empty."""

import time
from collections.abc import Mapping
from uuid import uuid4

from app.addressing import Domain, Extension, MailboxAddress
from app.errors import Invalid
from app.mailboxes.lockout.model import Login, Source
from app.switch.esl.reply import Event

_LONGEST_ID = 80  # characters; a switch's own are 36 and a number


def login_of(event: Event) -> Login | None:
    """The login that an event tells of, None for any other event.

    Nothing else tells of a failed login, so this event is taken at its word. Who could forge one can dial as well.
    """
    headers = event.headers
    if event.subclass != "vm::maintenance" or headers.get("VM-Action") != "authentication":
        return None
    result = headers.get("VM-Auth-Result")
    if result not in ("success", "fail"):
        return None
    try:
        extension = Extension.parse(headers.get("VM-User", ""))
        address = MailboxAddress(extension, Domain.parse(headers.get("VM-Domain", "")))
    except Invalid:
        return None  # no mailbox of this service has such a name
    return Login(_id(headers), address, result == "success", Source.PHONE, _word(headers.get("Unique-ID", "")), time.monotonic())


def _id(headers: Mapping[str, str]) -> str:
    """The same for every copy of the service that hears the event: the run of the switch, and the event's number in it."""
    core, sequence = _word(headers.get("Core-UUID", "")), _word(headers.get("Event-Sequence", ""))
    return f"{core}/{sequence}" if core and sequence else str(uuid4())


def _word(text: str) -> str:
    return text if len(text) <= _LONGEST_ID and text.isascii() and text.isprintable() else ""
