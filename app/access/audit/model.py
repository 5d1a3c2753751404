"""A row of the audit as a value. Texts of others are cut and cleaned here, so that every row fits its table."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from app.access.grant import Grant
from app.access.origin import Actor, Claim
from app.addressing import MailboxAddress
from app.networks import plain
from app.text import one_line

_LONGEST = 255  # characters of a name
_LONGEST_DETAIL = 1000


class Action(StrEnum):
    """What was done, or asked for."""

    MAILBOX_CREATE = "mailbox.create"
    MAILBOX_CHANGE = "mailbox.change"
    MAILBOX_DELETE = "mailbox.delete"
    MAILBOX_ADOPT = "mailbox.adopt"
    MAILBOX_LOCK = "mailbox.lock"  # too many wrong PINs
    MAILBOX_UNLOCK = "mailbox.unlock"
    PIN_SET = "pin.set"  # a change of a mailbox that sets its PIN
    PIN_READ = "pin.read"
    PIN_REKEY = "pin.rekey"  # PINs were encrypted anew with another key
    MESSAGE_AUDIO = "message.audio"
    MESSAGE_CHANGE = "message.change"  # marked read, unread, saved or not saved
    MESSAGE_DELETE = "message.delete"  # to the trash, or for good
    MESSAGE_RESTORE = "message.restore"  # from the trash
    MESSAGE_WAVEFORM = "message.waveform"
    MESSAGE_LEAVE = "message.leave"  # by API, as a call does
    GREETING_SET = "greeting.set"
    GREETING_ACTIVATE = "greeting.activate"
    GREETING_DEFAULT = "greeting.default"
    GREETING_DELETE = "greeting.delete"
    GREETING_AUDIO = "greeting.audio"
    MESSAGE_MOVE = "message.move"  # to another mailbox, as the next two
    MESSAGE_COPY = "message.copy"
    MESSAGE_FORWARD = "message.forward"
    MESSAGE_DELIVER = "message.deliver"  # a recording without a row was put into a mailbox
    LINK_CREATE = "link.create"
    LINK_REVOKE = "link.revoke"
    DOMAIN_CREATE = "domain.create"
    DOMAIN_CHANGE = "domain.change"
    DOMAIN_DELETE = "domain.delete"
    TOKEN_CREATE = "token.create"  # noqa: S105 - the name of an action
    TOKEN_ROTATE = "token.rotate"  # noqa: S105
    TOKEN_REVOKE = "token.revoke"  # noqa: S105
    REQUEST = "request"  # of refused requests, whatever they asked for


_READINGS = frozenset({Action.PIN_READ, Action.MESSAGE_AUDIO, Action.MESSAGE_WAVEFORM, Action.GREETING_AUDIO})


class Result(StrEnum):
    """How it ended."""

    DONE = "done"
    ALLOWED = "allowed"  # written before the answer, so whether the client received it is not known
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row."""

    action: str  # an ``Action``, or one of a newer release
    result: Result
    actor: Actor
    name: str
    token_id: UUID | None = None
    address: str = ""
    user_agent: str = ""
    request_id: str = ""
    domain: str | None = None
    extension: str | None = None
    target: str = ""
    detail: str = ""
    count: int = 1
    at: datetime | None = None  # None: now
    claim: Claim | None = None  # of a request with an Idempotency-Key; not kept here

    @property
    def is_act(self) -> bool:
        """Whether something is changed, in the row's transaction or right after it. A reading may be repeated."""
        return self.result is Result.DONE or (self.result is Result.ALLOWED and self.action not in _READINGS)

    @classmethod
    def of(
        cls,
        grant: Grant,
        action: Action,
        *,
        mailbox: MailboxAddress | None = None,
        domain: str | None = None,
        extension: str | None = None,
        target: object = "",
        detail: str = "",
        result: Result = Result.DONE,
        count: int = 1,
    ) -> Self:
        """What the caller with this grant did; ``mailbox``, or a domain and an extension as the switch writes them."""
        if mailbox is not None:
            domain, extension = mailbox.domain, mailbox.extension
        origin = grant.origin
        return cls(
            action=action,
            result=result,
            actor=origin.actor,
            name=clean(grant.name),
            token_id=grant.token_id,
            address=plain(origin.address),
            user_agent=clean(origin.user_agent),
            request_id=clean(origin.request_id),
            domain=None if domain is None else clean(domain),
            extension=None if extension is None else clean(extension),
            target=clean(str(target)),
            detail=clean(detail, _LONGEST_DETAIL),
            count=count,
            claim=origin.claim,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it was kept: ``at`` and ``id`` are its place in the list."""

    at: datetime
    id: int
    entry: AuditEntry


def clean(text: str, limit: int = _LONGEST) -> str:
    """Other people's text as it is kept and as it is looked for."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    return one_line(text, limit)
