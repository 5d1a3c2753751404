"""Messages to other mailboxes over HTTP: move, copy and forward."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from app.access.scopes import Scope
from app.addressing import Extension
from app.errors import Invalid
from app.http.domain_query import DomainName, DomainQuery, named_domain
from app.http.problems import status_of
from app.http.routing import Request, post
from app.messages.actions import MessageActions
from app.messages.sending import Sending, Sent
from app.messages.transfer_store import Kind

MOST_TARGETS = 50


def target_extension(text: str) -> str:
    """An extension that a mailbox can have."""
    try:
        return Extension.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _once(extensions: list[str]) -> list[str]:
    return list(dict.fromkeys(extensions))


TargetName = Annotated[str, AfterValidator(target_extension)]
TargetDomain = Annotated[DomainName, Field(description="the domain of these mailboxes, if it is not the message's own")]


class MoveIn(BaseModel):
    """The mailbox that a message goes to."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": {"to": ["102"]}})

    to: Annotated[list[TargetName], Field(min_length=1, max_length=1, description="the extension of the mailbox")]
    domain: TargetDomain = None


class SendIn(BaseModel):
    """The mailboxes that get the message too."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": {"to": ["102", "103"]}})

    to: Annotated[
        list[TargetName], AfterValidator(_once), Field(min_length=1, max_length=MOST_TARGETS, description="their extensions")
    ]
    domain: TargetDomain = None


class SentOut(TypedDict):
    """What became of the message for one mailbox."""

    extension: str
    domain: str
    id: Annotated[str, Field(description="of the message there")]
    status: Annotated[int, Field(description="200, or 503 if it is not there yet: then the service tries again by itself")]
    detail: str


class SentListOut(TypedDict):
    """What became of the message for each mailbox, in the order of the call."""

    data: list[SentOut]


class SendingRoutes:
    """Move, copy and forward messages."""

    def __init__(self, actions: MessageActions, sending: Sending) -> None:
        self._actions, self._sending = actions, sending

    @post("/v1/voicemail/message/{key}/move", scope=Scope.MESSAGE_WRITE, summary="Move a message to another mailbox, by its id")
    async def move_message(self, request: Request, query: DomainQuery, body: MoveIn) -> SentListOut:
        """It is new in the other mailbox, with another id; its caller, time and recording are the same."""
        return await self._send(request, query, Kind.MOVE, body)

    @post("/v1/voicemail/message/{key}/copy", scope=Scope.MESSAGE_WRITE, summary="Copy a message to other mailboxes, by its id")
    async def copy_message(self, request: Request, query: DomainQuery, body: SendIn) -> SentListOut:
        """It is new in the other mailboxes, and stays as it is in its own."""
        return await self._send(request, query, Kind.COPY, body)

    @post(
        "/v1/voicemail/message/{key}/forward",
        scope=Scope.MESSAGE_WRITE,
        summary="Forward a message to other mailboxes, by its id",
    )
    async def forward_message(self, request: Request, query: DomainQuery, body: SendIn) -> SentListOut:
        """As a copy, and ``forwarded_by`` says whose it was."""
        return await self._send(request, query, Kind.FORWARD, body)

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        await self._actions.find(request.grant, request.path["key"], domain=named_domain(request))

    async def _send(self, request: Request, query: DomainQuery, kind: Kind, body: MoveIn | SendIn) -> SentListOut:
        message = await self._actions.find(request.grant, request.path["key"], domain=query.domain)
        sent = await self._sending.send(request.grant, message, kind, body.to, body.domain)
        return {"data": [_out(one) for one in sent]}


def _out(sent: Sent) -> SentOut:
    return {
        "extension": sent.address.extension,
        "domain": sent.address.domain,
        "id": sent.id,
        "status": 200 if sent.error is None else status_of(sent.error),
        "detail": sent.detail,
    }
