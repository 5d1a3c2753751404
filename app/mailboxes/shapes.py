"""Mailboxes as JSON. The first seven keys of a mailbox and their order are called by clients already and do not change."""

from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NotRequired,  # pydantic wants this one before Python 3.12
)
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from typing_extensions import TypedDict

from app import fields as shared
from app.addressing import Domain, Extension
from app.errors import Invalid
from app.http.domain_query import DomainsName
from app.http.paging import Paging, Truth
from app.http.schemas import UuidText
from app.mailboxes import fields
from app.mailboxes.counted import CountsOut
from app.mailboxes.model import (
    DirectoryStatus,
)

_EXAMPLE: JsonDict = {
    "extension": "101",
    "password": "abc123def",
    "mail_to": "tech@example.com",
    "enabled": True,
    "description": "For Tech",
}


_CHANGE_EXAMPLE: JsonDict = {"password": "abc123def", "enabled": True, "mail_to": "tech@example.com"}


def _extension(text: str) -> str:
    try:
        return Extension.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _named_domain(text: str | None) -> str | None:
    try:
        return None if text is None else Domain.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _zone(name: str | None) -> str | None:
    return None if name is None else shared.time_zone(name)


def _pin_or_same(text: str) -> str:
    return text and fields.pin(text)


def _limits(*, example: str, **keywords: str | int) -> JsonDict:
    """Schema keywords for checks that a validator makes with its own error texts."""
    return {**keywords, "examples": [example]}


_DOMAIN = _limits(maxLength=253, example="example.com")
_NAME = (
    r"^(?!(?:message|_all_)$)(?![0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$)"
    r"(?=.*[0-9A-Za-z*#])[0-9A-Za-z*#._-]{1,64}$"
)
_PIN = r"^(?! )(?!.*<!)[^\x00-\x1f\x7f-\xa0]*(?<! )$"

ExtensionField = Annotated[
    str,
    AfterValidator(_extension),
    Field(
        description="of 0-9 A-Z a-z * # . _ -, with at least one of 0-9 A-Z a-z * #; not message, not _all_, not like a UUID",
        json_schema_extra=_limits(minLength=1, maxLength=64, pattern=_NAME, example="101"),
    ),
]
Pin = Annotated[
    str,
    AfterValidator(fields.pin),
    Field(
        description="the PIN: printable characters, no space at either end",
        json_schema_extra=_limits(minLength=1, maxLength=fields.LONGEST_PIN, pattern=_PIN, example="abc123def"),
    ),
]
SamePin = Annotated[
    str,
    AfterValidator(_pin_or_same),
    Field(
        description="the PIN as in a new mailbox; empty: it stays as it is",
        json_schema_extra=_limits(maxLength=fields.LONGEST_PIN, pattern=_PIN, example="abc123def"),
    ),
]
MailTo = Annotated[
    str,
    AfterValidator(fields.mail_to),
    Field(
        description="no address, one, or several with commas; a comma at the end is forgiven",
        json_schema_extra=_limits(maxLength=fields.LONGEST_MAIL_TO, pattern="^[ -~]*$", example="tech@example.com"),
    ),
]
LocalAfterEmail = Annotated[bool, Field(description="keep the recording after the mail was accepted; true if left out at first")]
Description = Annotated[
    str,
    AfterValidator(shared.description),
    Field(json_schema_extra=_limits(maxLength=shared.LONGEST_DESCRIPTION, example="For Tech")),
]
Zone = Annotated[
    str | None,
    AfterValidator(_zone),
    Field(
        description="a name of the time zone database; null: the service's time zone",
        json_schema_extra=_limits(example="Asia/Ho_Chi_Minh"),
    ),
]
OwnId = Annotated[UUID, Field(default=None, description="the mailbox's own")]
OwnExtension = Annotated[str, Field(default=None, description="the mailbox's own")]
OwnDomain = Annotated[str, Field(default=None, description="the mailbox's own")]
Asked = Annotated[
    str | None,
    AfterValidator(_named_domain),
    Field(
        description="another domain of the token than its default one",
        json_schema_extra={**_DOMAIN, "pattern": "^[0-9A-Za-z]([0-9A-Za-z._-]{0,251}[0-9A-Za-z])?$"},
    ),
]
Ignored = Annotated[Any, Field(default=None, description="ignored")]


class ListQuery(Paging):
    """Which part of the list of which domain; of several domains, by domain and extension."""

    domain: DomainsName = None
    counts: Annotated[Truth, Field(description="true: with the counts of each mailbox's messages; wants message:read")] | None = (
        None
    )


class DirectoryOut(TypedDict):
    """Whether the switch has the mailbox as it stands here."""

    state: DirectoryStatus
    detail: Annotated[str, Field(description="why it is pending or failed")]


class MailboxOut(TypedDict):
    """A mailbox; the first seven keys and their order are fixed."""

    id: UuidText
    extension: str
    password: Annotated[str, Field(description="empty without the scope pin:read, and if VOICEMAIL_SECRET_KEY cannot decrypt it")]
    mail_to: str
    local_after_email: bool
    enabled: bool
    description: str
    time_zone: str | None
    directory: DirectoryOut
    domain: str
    locked_until: Annotated[
        str | None, Field(description="too many wrong PINs were given: until then no PIN opens it by phone; null: not locked")
    ]
    counts: NotRequired[Annotated[CountsOut, Field(description="only in a list with counts=true")]]


class MailboxIn(BaseModel):
    """A new mailbox. One that was read with GET may be sent, and gets the same ``id`` if that is free."""

    IGNORED: ClassVar[frozenset[str]] = frozenset({"directory", "locked_until"})
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": _EXAMPLE})

    extension: ExtensionField
    password: Pin
    enabled: bool
    local_after_email: LocalAfterEmail = True
    mail_to: MailTo = ""
    description: Description = ""
    time_zone: Zone = None
    id: Annotated[UUID, Field(default=None, description="the id that clients know already; a new one if left out")]
    domain: Asked = None
    directory: Ignored
    locked_until: Ignored


class MailboxChangeIn(BaseModel):
    """All fields of a mailbox; an optional field that is left out stays as it is.

    What was read with GET may be sent back: ``id``, ``extension`` and ``domain`` must then be its own.
    """

    IGNORED: ClassVar[frozenset[str]] = frozenset({"directory", "locked_until"})
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": _CHANGE_EXAMPLE})

    password: SamePin
    enabled: bool
    local_after_email: LocalAfterEmail = True
    mail_to: MailTo = ""
    description: Description = ""
    time_zone: Zone = None
    id: OwnId
    extension: OwnExtension
    domain: OwnDomain
    directory: Ignored
    locked_until: Ignored


class MailboxPatchIn(BaseModel):
    """Some fields of a mailbox; the others stay. null puts an optional one back to what it is in a new mailbox."""

    IGNORED: ClassVar[frozenset[str]] = frozenset({"directory", "locked_until"})
    NULL_IS_A_VALUE: ClassVar[bool] = True
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": {"enabled": False}})

    password: Annotated[SamePin, Field(default="")]
    enabled: Annotated[bool, Field(default=None)]
    local_after_email: LocalAfterEmail | None = None
    mail_to: MailTo | None = None
    description: Description | None = None
    time_zone: Zone = None
    id: OwnId
    extension: OwnExtension
    domain: OwnDomain
    directory: Ignored
    locked_until: Ignored


class WarningOut(TypedDict):
    """Something that was done all the same."""

    field: str
    message: str


Warnings = Annotated[list[WarningOut], Field(description="only if the new PIN is easily guessed and the domain's policy warns")]


class Done(TypedDict):
    """It is done here; ``directory`` says whether the switch has it, too."""

    message: Literal["successfully"]
    directory: DirectoryOut
    warnings: NotRequired[Warnings]


class PinMade(TypedDict):
    """The new PIN is set here; ``directory`` says whether the switch has it, too."""

    message: Literal["successfully"]
    directory: DirectoryOut
    password: Annotated[str, Field(description="the new PIN; empty without the scope pin:read")]


class Created(TypedDict):
    """The new mailbox."""

    data: MailboxOut
    message: Literal["successfully"]
    warnings: NotRequired[Warnings]
