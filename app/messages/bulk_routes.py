"""One action for many messages over HTTP."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from app.access.scopes import Scope
from app.http.domain_query import DomainsName
from app.http.problems import status_of
from app.http.routing import Request, post
from app.messages.bulk import MOST, SENDING, Bulk, BulkAction, Order
from app.messages.sending_routes import TargetDomain, TargetName, target_extension

_LONGEST_ID = 64  # characters; a longer one names no message


class BulkFilter(BaseModel):
    """Which messages are meant: all of a domain, or those of one mailbox in it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    extension: Annotated[str, AfterValidator(target_extension), Field(description="those of one mailbox")] | None = None
    domain: DomainsName = None


class BulkIn(BaseModel):
    """An action, and the messages: their ids or a filter."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"example": {"filter": {"extension": "101"}, "action": "read", "dry_run": True}},
    )

    action: BulkAction
    ids: (
        Annotated[
            list[Annotated[str, Field(max_length=_LONGEST_ID)]], Field(min_length=1, max_length=MOST, description="of messages")
        ]
        | None
    ) = None
    filter: Annotated[
        BulkFilter | None,
        Field(description=f"in place of ids; the newest {MOST} are meant. To restore: of the messages in the trash"),
    ] = None
    to: Annotated[TargetName | None, Field(description="of move and copy: the extension of the mailbox")] = None
    domain: TargetDomain = None
    dry_run: Annotated[bool, Field(description="true: nothing is done, and the answer says what could be")] = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("either ids or filter must be given")
        if (self.action in SENDING) != (self.to is not None):
            raise ValueError("to is needed to move and copy, and for nothing else")
        if self.domain is not None and self.to is None:
            raise ValueError("domain is the domain of to; a filter has a domain of its own")
        return self


class OutcomeOut(TypedDict):
    """What became of one message."""

    id: str
    status: Annotated[int, Field(description="as of a call for this message alone: 200, 404, 409, 503")]
    detail: str


class BulkOut(TypedDict):
    """A result for each message; an id that was given twice has one."""

    data: list[OutcomeOut]
    more: Annotated[int, Field(description="how many further messages the filter found: repeat the call for them")]


class BulkRoutes:
    """Act on many messages."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk

    @post(
        "/v1/voicemail/message/bulk",
        scope=Scope.MESSAGE_WRITE,
        summary="Mark, delete, restore, move or copy many messages",
    )
    async def act_on_messages(self, request: Request, body: BulkIn) -> BulkOut:
        """What became of each; some may fail while others are done."""
        keys, more = body.ids or [], 0
        if body.filter is not None:
            chosen = await self._bulk.choose(request.grant, body.action, body.filter.extension, body.filter.domain)
            keys, more = list(chosen.ids), chosen.more
        order = Order(body.action, body.to, body.domain, body.dry_run)
        outcomes = await self._bulk.run(request.grant, keys, order)
        data: list[OutcomeOut] = [
            {"id": one.id, "status": 200 if one.error is None else status_of(one.error), "detail": one.detail} for one in outcomes
        ]
        return {"data": data, "more": more}
