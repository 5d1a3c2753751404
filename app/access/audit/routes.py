"""The HTTP side of the audit."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic.config import JsonDict

from app.access.audit.model import Action, Line, Result
from app.access.audit.service import Audit, Filter
from app.access.origin import Actor
from app.access.scopes import Scope
from app.http.domain_query import DomainFilter
from app.http.paging import whole_number
from app.http.routing import Request, get
from app.http.times import Time
from app.networks import plain

_ACTIONS: list[str] = [action.value for action in Action]
_TEXT: JsonDict = {"minLength": 1, "maxLength": 255}


def _address(text: str) -> str:
    if not (address := plain(text)):
        raise ValueError("must be an IP address")
    return address


def _action(text: str) -> str:
    if text not in _ACTIONS:
        raise ValueError("must be one of " + " ".join(_ACTIONS))
    return text


Text = Annotated[str, Field(max_length=255, json_schema_extra=_TEXT)]


class AuditQuery(BaseModel):
    """Which rows are wanted."""

    limit: Annotated[int, Field(ge=1, le=1000, description="how many at most"), BeforeValidator(whole_number)] = 10
    cursor: Annotated[Text, Field(description="the next of the page before")] | None = None
    since: Annotated[Time, Field(description="from this time on")] | None = None
    until: Annotated[Time, Field(description="before this time")] | None = None
    domain: DomainFilter = None
    extension: Annotated[Text, Field(description="about this extension")] | None = None
    who: Annotated[Text, Field(description="the name of a token, or of a user of the command line")] | None = None
    action: Annotated[str, AfterValidator(_action), Field(json_schema_extra={"enum": list(_ACTIONS)})] | None = None
    address: (
        Annotated[
            str,
            AfterValidator(_address),
            Field(description="the client's; of IPv6 also the refused requests of its /64", json_schema_extra={"maxLength": 45}),
        ]
        | None
    ) = None


class AuditOut(BaseModel):
    """Who did what."""

    id: int
    at: Annotated[datetime, Field(description="of refused requests: the minute in which they came")]
    actor: Annotated[Actor, Field(description="what kind of caller it was")]
    who: Annotated[str, Field(description="the name of the token or of the command line's user; empty: nobody")]
    token_id: UUID | None
    address: Annotated[str | None, Field(description="the client's; of refused requests over IPv6 its /64")]
    user_agent: str
    request_id: str
    action: Annotated[str, Field(description="such as pin.read; later releases have more")]
    domain: Annotated[str | None, Field(description="null: it is about none, or about several")]
    extension: str | None
    target: Annotated[str, Field(description="the id of a message or a mailbox, or the name of a token")]
    detail: Annotated[str, Field(description="such as the names of the fields that were changed")]
    result: Annotated[Result, Field(description="allowed: written before the answer was sent")]
    count: Annotated[int, Field(description="how many PINs an answer held, or how many requests were refused in the minute")]


class AuditPage(BaseModel):
    """Rows, newest first."""

    data: list[AuditOut]
    limit: int
    next: Annotated[str | None, Field(description="the cursor of the page that follows; null: this is the last one")]


class AuditRoutes:
    """Who did what: changes, readings of PINs and audio, and refused requests."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    @get("/v1/audit", summary="List who did what, newest first", scope=Scope.ADMIN)
    async def list_audit(self, request: Request, query: AuditQuery) -> AuditPage:
        """A page of rows. A token of some domains sees those about its domains."""
        wanted = Filter(
            since=query.since,
            until=query.until,
            domain=query.domain,
            extension=query.extension,
            who=query.who,
            action=None if query.action is None else Action(query.action),
            address=query.address,
        )
        lines, following = await self._audit.page(request.grant, wanted, limit=query.limit, cursor=query.cursor)
        return AuditPage(data=[_out(line) for line in lines], limit=query.limit, next=following)


def _out(line: Line) -> AuditOut:
    entry = line.entry
    return AuditOut(
        id=line.id,
        at=line.at,
        actor=entry.actor,
        who=entry.name,
        token_id=entry.token_id,
        address=entry.address or None,
        user_agent=entry.user_agent,
        request_id=entry.request_id,
        action=entry.action,
        domain=entry.domain,
        extension=entry.extension,
        target=entry.target,
        detail=entry.detail,
        result=entry.result,
        count=entry.count,
    )
