"""Where a call came from. A grant carries it, so that whatever is audited can say it."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID


class Actor(StrEnum):
    """What kind of caller it was."""

    TOKEN = "token"  # noqa: S105
    LINK = "link"  # whoever has the link; the name is that of the token that made it
    COMMAND = "command"  # the ``voicemail`` command; the name is that of the system's user
    PHONE = "phone"  # the owner of a mailbox, in the phone's menu
    SERVICE = "service"
    NOBODY = "nobody"  # no valid token


@dataclass(frozen=True, slots=True)
class Claim:
    """A request with an Idempotency-Key: the digest of token and key, and which run of it this is."""

    key: bytes
    run: UUID


@dataclass(frozen=True, slots=True)
class Origin:
    """The client as its connection and its headers show it."""

    actor: Actor
    address: str = ""
    request_id: str = ""
    user_agent: str = ""
    claim: Claim | None = field(default=None, repr=False)


HERE = Origin(Actor.SERVICE)
