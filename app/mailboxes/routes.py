"""The HTTP side of mailboxes: its first seven keys and their order are called by clients already and do not change."""

from typing import Annotated, Any, Literal, TypedDict, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import Extension
from app.errors import Invalid, NotFound
from app.http.done import Done
from app.http.paging import Page, Paging
from app.http.routing import Answer, Call, delete, get, post, put
from app.mailboxes import fields
from app.mailboxes.model import Mailbox, MailboxChange, NewMailbox, join_addresses, split_addresses
from app.mailboxes.pins import PinUnreadable
from app.mailboxes.service import Mailboxes

_EXAMPLE: JsonDict = {
    "extension": "101",
    "password": "abc123def",
    "mail_to": "tech@example.com",
    "enabled": True,
    "description": "For Tech",
}


def _extension(text: str) -> str:
    try:
        return Extension.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _zone(name: str | None) -> str | None:
    return None if name is None else fields.time_zone(name)


ExtensionField = Annotated[
    str, AfterValidator(_extension), Field(description="1 to 64 of 0-9 A-Z a-z * # . _ -; never the word message")
]
Pin = Annotated[str, AfterValidator(fields.pin), Field(description="the PIN: 1 to 64 printable characters")]
MailTo = Annotated[str, AfterValidator(fields.mail_to), Field(description="no address, one, or several with commas")]
LocalAfterEmail = Annotated[bool, Field(description="keep the recording after the mail was accepted")]
Description = Annotated[str, AfterValidator(fields.description), Field(description="up to 1000 characters")]
Zone = Annotated[
    str | None, AfterValidator(_zone), Field(description="a name such as Asia/Ho_Chi_Minh; null: the service's time zone")
]


def _without_defaults(schema: JsonDict) -> None:
    """What is left out of a change stays as it is: no default is sent in its place."""
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for field in properties.values():
        assert isinstance(field, dict)
        field.pop("default", None)


class DirectoryOut(BaseModel):
    """Whether the switch has the mailbox as it stands here."""

    state: Literal["applied", "pending", "failed"]
    detail: Annotated[str, Field(description="why it is pending or failed")]


class MailboxOut(BaseModel):
    """A mailbox."""

    id: UUID
    extension: str
    password: Annotated[
        str, Field(description="empty without the scope pin:read, and where VOICEMAIL_SECRET_KEY cannot decrypt it")
    ]
    mail_to: str
    local_after_email: bool
    enabled: bool
    description: str
    time_zone: str | None
    directory: DirectoryOut


class MailboxIn(BaseModel):
    """A new mailbox."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": _EXAMPLE})

    extension: ExtensionField
    password: Pin
    enabled: bool
    local_after_email: LocalAfterEmail = True
    mail_to: MailTo = ""
    description: Description = ""
    time_zone: Zone = None


class MailboxChangeIn(BaseModel):
    """What a mailbox is to be; an optional field that is left out stays as it is.

    What was read with GET may be sent back: ``id`` and ``extension`` must then be the mailbox's own, ``directory`` is ignored.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra=_without_defaults)

    password: Pin
    enabled: bool
    local_after_email: LocalAfterEmail = True
    mail_to: MailTo = ""
    description: Description = ""
    time_zone: Zone = None
    id: Annotated[UUID, Field(default=None, description="the mailbox's own")]
    extension: Annotated[str, Field(default=None, description="the mailbox's own")]
    directory: Annotated[dict[str, Any], Field(default=None, description="ignored")]


class Created(BaseModel):
    """The new mailbox."""

    data: MailboxOut
    message: Literal["successfully"] = "successfully"


class DirectoryJson(TypedDict):
    """Where the last change stands on the switch."""

    state: str
    detail: str


class MailboxJson(TypedDict):
    """A mailbox; the first seven keys and their order are fixed."""

    id: str
    extension: str
    password: str
    mail_to: str
    local_after_email: bool
    enabled: bool
    description: str
    time_zone: str | None
    directory: DirectoryJson


class MailboxRoutes:
    """Mailboxes in, mailboxes out."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    # The answers are built as plain dicts: a thousand models take longer to validate and dump than their rows to read.

    @get("/v1/voicemail", scope=Scope.MAILBOX_READ, summary="List mailboxes by extension")
    async def list(self, call: Call, query: Paging) -> Page[MailboxOut]:
        """A page of mailboxes."""
        found: list[Mailbox] = []
        total = 0
        if call.grant.allows(self._mailboxes.domain):
            found, total = await self._mailboxes.page(limit=query.limit, offset=query.offset)
        data = [self._shown(mailbox, call.grant) for mailbox in found]
        return cast("Page[MailboxOut]", {"data": data, "limit": query.limit, "offset": query.offset, "total": total})

    @post("/v1/voicemail", scope=Scope.MAILBOX_WRITE, summary="Create a mailbox", status=201)
    async def create(self, call: Call, body: MailboxIn) -> Answer[Created]:
        """The mailbox, after at most two seconds of waiting for the switch."""
        self._admit(call.grant)
        mailbox = await self._mailboxes.create(
            NewMailbox(
                extension=Extension(body.extension),
                pin=body.password,
                enabled=body.enabled,
                mail_to=split_addresses(body.mail_to),
                local_after_email=body.local_after_email,
                description=body.description,
                time_zone=body.time_zone,
            )
        )
        answer = {"data": self._shown(mailbox, call.grant), "message": "successfully"}
        return Answer(cast(Created, answer), headers={"Location": f"/v1/voicemail/{mailbox.id}"})

    @get("/v1/voicemail/{key}", scope=Scope.MAILBOX_READ, summary="Get a mailbox by its id or extension")
    async def show(self, call: Call) -> MailboxOut:
        """The mailbox itself."""
        self._admit(call.grant)
        return cast(MailboxOut, self._shown(await self._mailboxes.get(call.path["key"]), call.grant))

    @put("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Change a mailbox")
    async def replace(self, call: Call, body: MailboxChangeIn) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        self._admit(call.grant)
        await self._mailboxes.replace(call.path["key"], _change(body))
        return Done()

    @delete("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Delete a mailbox; its messages stay")
    async def remove(self, call: Call) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        self._admit(call.grant)
        await self._mailboxes.delete(call.path["key"])
        return Done()

    async def admit(self, call: Call) -> None:
        """Raise ``NotFound`` if the mailbox of the path, or the domain of a new one, does not exist for the caller."""
        if "key" in call.path:
            self._admit(call.grant)
            await self._mailboxes.get(call.path["key"])
        elif call.request.method == "POST":
            self._admit(call.grant)

    def _admit(self, grant: Grant) -> None:
        """Raise ``NotFound`` where the token is for other domains: nothing of this one exists for it."""
        if not grant.allows(self._mailboxes.domain):
            raise NotFound("there is no mailbox with this id or extension")

    def _shown(self, mailbox: Mailbox, grant: Grant) -> MailboxJson:
        try:
            pin = self._mailboxes.pin(mailbox) if grant.has(Scope.PIN_READ) else ""
        except PinUnreadable:
            pin = ""  # the others of a page are shown all the same
        return {
            "id": str(mailbox.id),
            "extension": mailbox.address.extension,
            "password": pin,
            "mail_to": join_addresses(mailbox.mail_to),
            "local_after_email": mailbox.local_after_email,
            "enabled": mailbox.enabled,
            "description": mailbox.description,
            "time_zone": mailbox.time_zone,
            "directory": {"state": mailbox.directory.state.value, "detail": mailbox.directory.detail},
        }


def _change(body: MailboxChangeIn) -> MailboxChange:
    """The change; what the client left out is kept."""
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set - {"password", "directory"}}
    if "mail_to" in given:
        given["mail_to"] = split_addresses(given["mail_to"])
    return MailboxChange(pin=body.password, **given)
