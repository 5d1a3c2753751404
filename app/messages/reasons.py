"""For which reasons a message leaves the switch, and what each of them asks for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import UUID

from app.database.pool import Connection
from app.switch.tables.changes import WholeRow
from app.switch.tables.model import MessageRow

# Why the message must stay, read on a connection to the service's own database; "" if nothing speaks against its removal.
Guard: TypeAlias = Callable[[Connection, UUID], Awaitable[str]]


class Aside(Protocol):
    """Where a message is kept before its row is deleted."""

    async def put(self, message_id: UUID, row: MessageRow) -> list[WholeRow]:
        """Keep a copy of the message as it is now; the copied rows, none if it is gone. Again does no harm."""

    async def dropped(self, message_id: UUID) -> None:
        """Forget the copy: the row was not deleted by this removal."""

    async def kept(self, connection: Connection, message_id: UUID) -> None:
        """Note, in the connection's transaction, that the row is deleted."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason for which messages are removed."""

    name: str
    guard: Guard  # read again at the moment of removal
    only_unheard: bool  # a message that somebody listened to or saved on a phone stays
    at_once: bool = False  # somebody waits: the row goes now, only its file when the switch has made its copies
    aside: Aside | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a removal waits for what may still be under way on the switch. In seconds.

    mod_voicemail writes a message's row first; only then it sends MWI and makes the carbon copies, from this message's file.
    MWI is counted first and sent then, so a second one corrects the first if a message came in between.
    """

    settling: float = 5.0  # after the message was first seen
    settling_with_copies: float = 60.0  # if other messages have the same uuid
    tell_again: float = 2.0  # between the two MWI


class Kept(Exception):
    """There is a doubt, so the message stays. The text says why."""


class TooEarly(Exception):
    """The removal must wait for ``seconds``; the text says why."""

    def __init__(self, why: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(why)
