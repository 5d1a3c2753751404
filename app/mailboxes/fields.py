"""What may stand in a mailbox's fields. Each function gives the value as it is kept or raises ``ValueError``."""

from app.fields import address_problem
from app.mailboxes.model import join_addresses
from app.mailboxes.pins.locked import is_lock_pin

LONGEST_PIN = 64  # characters
MOST_ADDRESSES = 20
LONGEST_MAIL_TO = 10_000  # characters, with all spaces around the commas


def pin(text: str) -> str:
    """1 to 64 printable characters; a space may stand inside."""
    if not 1 <= len(text) <= LONGEST_PIN or not text.isprintable():
        raise ValueError(f"must be 1 to {LONGEST_PIN} printable characters")
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    if "<!" in text:
        # The switch writes a user out as XML and reads it in again at every lookup, and from <! on it escapes nothing.
        raise ValueError("must not hold <! in a row, which the switch cannot keep")
    if text.lower() == "user-choose":
        # mod_voicemail takes this word as leave to come in without a PIN and choose one.
        raise ValueError("must not be the word user-choose, which has a meaning of its own for the switch")
    if is_lock_pin(text):
        raise ValueError("must not be what this service writes as the PIN of a locked mailbox")
    return text


def mail_to(text: str) -> str:
    """No address, one, or several separated by commas, each once and without the spaces around it."""
    if not text.strip(" "):
        return ""
    if len(text) > LONGEST_MAIL_TO:
        raise ValueError(f"must not be longer than {LONGEST_MAIL_TO} characters")
    # A comma at the end is forgiven.
    text = text.rstrip(" ").removesuffix(",")
    # Counted first: to split a megabyte of commas is slow.
    if text.count(",") >= MOST_ADDRESSES:
        raise ValueError(f"must not hold more than {MOST_ADDRESSES} addresses")
    pieces = [piece.strip(" ") for piece in text.split(",")]
    for number, piece in enumerate(pieces, 1):
        if problem := address_problem(piece):
            which = f"address {number} ({piece[:100]!a})" if len(pieces) > 1 else "the address"
            raise ValueError(f"{which} {problem}")
    once: dict[str, str] = {}
    for piece in pieces:
        once.setdefault(_mailbox_of(piece), piece)
    return join_addresses(once.values())


def _mailbox_of(address: str) -> str:
    """Only the domain of an address is the same in capitals and small letters."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"
