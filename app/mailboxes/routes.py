"""The HTTP side of mailboxes: its first seven keys and their order are called by clients already and do not change."""

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
from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import Domain, Extension, MailboxKey
from app.errors import Invalid
from app.http.conditions import conditional, etag, if_match
from app.http.domain_query import DomainQuery, DomainsName
from app.http.paging import Page, Paging
from app.http.routing import Request, Response, delete, get, patch, post, put
from app.http.schemas import UuidText
from app.mailboxes import fields
from app.mailboxes.model import (
    KEEP,
    Changed,
    DirectoryState,
    DirectoryStatus,
    Mailbox,
    MailboxChange,
    NewMailbox,
    join_addresses,
    split_addresses,
)
from app.mailboxes.pins.cipher import PinUnreadable
from app.mailboxes.service import Mailboxes

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


class MailboxRoutes:
    """List, create, change and delete mailboxes."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    # The answers are built as plain dicts: a thousand models take longer to validate and dump than their rows to read.

    @get("/v1/voicemail", scope=Scope.MAILBOX_READ, summary="List mailboxes by extension")
    async def list(self, request: Request, query: ListQuery) -> Page[MailboxOut]:
        """A page of mailboxes."""
        found, total = await self._mailboxes.page(request.grant, asked=query.domain, limit=query.limit, offset=query.offset)
        data = [self._shown(mailbox, request.grant) for mailbox in found]
        return {"data": data, "limit": query.limit, "offset": query.offset, "total": total}

    @post("/v1/voicemail", scope=Scope.MAILBOX_WRITE, summary="Create a mailbox", status=201)
    async def create(self, request: Request, body: MailboxIn) -> Response[Created]:
        """The mailbox, after at most two seconds of waiting for the switch."""
        new = NewMailbox(
            extension=Extension(body.extension),
            pin=body.password,
            enabled=body.enabled,
            mail_to=split_addresses(body.mail_to),
            local_after_email=body.local_after_email,
            description=body.description,
            time_zone=body.time_zone,
            id=body.id,
        )
        created = await self._mailboxes.create(request.grant, new, asked=body.domain)
        mailbox = created.mailbox
        answer: Created = {"data": self._shown(mailbox, request.grant), "message": "successfully"}
        if created.warnings:
            answer["warnings"] = _warnings(created)
        domain = mailbox.address.domain
        where = "" if domain == request.grant.default_domain else f"?domain={domain}"
        headers = {"Location": f"/v1/voicemail/{mailbox.id}{where}", **etag(mailbox.version)}
        return Response(answer, headers=headers)

    @get("/v1/voicemail/{key}", scope=Scope.MAILBOX_READ, summary="Get a mailbox by its id or extension")
    async def show(self, request: Request, query: DomainQuery) -> Response[MailboxOut]:
        """The mailbox itself; its ``ETag`` changes with what can be set, not with ``directory``."""
        mailbox = await self._mailboxes.get(request.grant, _key(request), asked=query.domain)
        return Response(self._shown(mailbox, request.grant), headers=etag(mailbox.version))

    @put("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Change a mailbox")
    @conditional
    async def replace(self, request: Request, query: DomainQuery, body: MailboxChangeIn) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        change = _change(body, if_match(request.raw))
        return _changed(await self._mailboxes.replace(request.grant, _key(request), change, asked=query.domain))

    @patch("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Change some fields of a mailbox")
    @conditional
    async def update(self, request: Request, query: DomainQuery, body: MailboxPatchIn) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        change = _change(body, if_match(request.raw))
        return _changed(await self._mailboxes.replace(request.grant, _key(request), change, asked=query.domain))

    @post("/v1/voicemail/{key}/pin", scope=Scope.MAILBOX_WRITE, summary="Give a mailbox a random PIN")
    @conditional
    async def generate_pin(self, request: Request, query: DomainQuery) -> PinMade:
        """The PIN, after at most two seconds of waiting for the switch."""
        only_if = if_match(request.raw)
        pin, changed = await self._mailboxes.generate_pin(request.grant, _key(request), only_if, asked=query.domain)
        state = changed.mailbox.directory
        directory: DirectoryOut = {"state": state.state, "detail": state.detail}
        return {"message": "successfully", "directory": directory, "password": pin}

    @delete("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Delete a mailbox; its messages stay")
    @conditional
    async def remove(self, request: Request, query: DomainQuery) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        only_if = if_match(request.raw)
        return _done(await self._mailboxes.delete(request.grant, _key(request), only_if, asked=query.domain))

    @delete("/v1/voicemail/{key}/lock", scope=Scope.MAILBOX_WRITE, summary="Unlock a mailbox; its PIN opens it again")
    @conditional
    async def unlock(self, request: Request, query: DomainQuery) -> Done:
        """Done, also if it was not locked, after at most two seconds of waiting for the switch."""
        only_if = if_match(request.raw)
        return _done(await self._mailboxes.unlock(request.grant, _key(request), only_if, asked=query.domain))

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the mailbox of the path does not exist for the caller, before a scope that it lacks is named."""
        if "key" in request.path:
            await self._mailboxes.admitted(request.grant, _key(request), asked=request.raw.query.get("domain"))

    def _shown(self, mailbox: Mailbox, grant: Grant) -> MailboxOut:
        try:
            pin = self._mailboxes.pin(grant, mailbox)
        except PinUnreadable:
            pin = ""  # the other mailboxes of the page are still shown
        return {
            "id": str(mailbox.id),
            "extension": mailbox.address.extension,
            "password": pin,
            "mail_to": join_addresses(mailbox.mail_to),
            "local_after_email": mailbox.local_after_email,
            "enabled": mailbox.enabled,
            "description": mailbox.description,
            "time_zone": mailbox.time_zone,
            "directory": {"state": mailbox.directory.state, "detail": mailbox.directory.detail},
            "domain": mailbox.address.domain,
            "locked_until": mailbox.lock.until.isoformat(timespec="seconds") if mailbox.lock else None,
        }


def _key(request: Request) -> MailboxKey:
    return MailboxKey.parse(request.path["key"])


def _done(state: DirectoryState) -> Done:
    return {"message": "successfully", "directory": {"state": state.state, "detail": state.detail}}


def _changed(changed: Changed) -> Done:
    done = _done(changed.mailbox.directory)
    if changed.warnings:
        done["warnings"] = _warnings(changed)
    return done


def _warnings(changed: Changed) -> list[WarningOut]:
    return [{"field": warning.field, "message": warning.message} for warning in changed.warnings]


_AT_FIRST = {"local_after_email": True, "mail_to": "", "description": "", "time_zone": None}


def _change(body: MailboxChangeIn | MailboxPatchIn, only_if: frozenset[str] | None) -> MailboxChange:
    """The change; a field that the client left out is kept."""
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set - {"password", *body.IGNORED}}
    given.update({name: _AT_FIRST[name] for name, value in given.items() if value is None and name in _AT_FIRST})
    if "mail_to" in given:
        given["mail_to"] = split_addresses(given["mail_to"])
    return MailboxChange(pin=body.password or KEEP, only_if=only_if, **given)
