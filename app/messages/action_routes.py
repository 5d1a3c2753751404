"""Changes of messages over HTTP: marks, the trash, and the way back."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.access.scopes import Scope
from app.http.domain_query import DomainQuery, named_domain
from app.http.done import Done
from app.http.routing import Request, delete, patch, post
from app.messages.actions import MessageActions


class MessageChangeIn(BaseModel):
    """The marks to change; both may be given. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": {"read": True}})

    read: Annotated[bool | None, Field(description="true: as if it was listened to on a phone; false: new again")] = None
    saved: Annotated[bool | None, Field(description="as if it was saved on a phone, or not")] = None


class DeleteQuery(DomainQuery):
    """Which message is meant, and whether it can be restored."""

    permanently: Annotated[
        Literal["false", "true"], Field(description="true: it does not go to the trash, or leaves it for good")
    ] = "false"


class ActionRoutes:
    """Mark, delete and restore messages."""

    def __init__(self, actions: MessageActions) -> None:
        self._actions = actions

    @patch("/v1/voicemail/message/{key}", scope=Scope.MESSAGE_WRITE, summary="Mark a message as read, unread or saved, by its id")
    async def change_message(self, request: Request, query: DomainQuery, body: MessageChangeIn) -> Done:
        """Done; the phones of its mailbox are told at once."""
        await self._actions.change(request.grant, request.path["key"], domain=query.domain, read=body.read, saved=body.saved)
        return Done()

    @delete("/v1/voicemail/message/{key}", scope=Scope.MESSAGE_WRITE, summary="Delete a message by its id: it goes to the trash")
    async def delete_message(self, request: Request, query: DeleteQuery) -> Done:
        """Done; it can be restored for some days unless that was not wanted."""
        await self._actions.delete(
            request.grant, request.path["key"], domain=query.domain, permanently=query.permanently == "true"
        )
        return Done()

    @post("/v1/voicemail/message/{key}/restore", scope=Scope.MESSAGE_WRITE, summary="Restore a message from the trash by its id")
    async def restore_message(self, request: Request, query: DomainQuery) -> Done:
        """Done; it is in its mailbox as it was."""
        await self._actions.restore(request.grant, request.path["key"], domain=query.domain)
        return Done()

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        await self._actions.admit(request.grant, request.path["key"], domain=named_domain(request))
