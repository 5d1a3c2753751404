"""The messages over HTTP."""

from typing import Annotated

from pydantic import AfterValidator, Field

from app.access.scopes import Scope
from app.addressing import Extension
from app.errors import Invalid
from app.http.base_url import base_url
from app.http.domain_query import DomainQuery, DomainsName, named_domain
from app.http.paging import Page, Paging
from app.http.routing import Request, get
from app.messages.rendering import LineOut, MessageOut, Rendering
from app.messages.service import Messages


def _extension(text: str) -> str:
    try:
        return Extension.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


class MessageQuery(Paging):
    """Which messages are wanted."""

    extension: Annotated[str, AfterValidator(_extension), Field(description="those of one mailbox")] | None = None
    domain: DomainsName = None


class MessageRoutes:
    """List and show messages; no route changes a message."""

    def __init__(self, messages: Messages, rendering: Rendering, public_url: str) -> None:
        self._messages = messages
        self._rendering = rendering
        self._public_url = public_url

    # The answers are built as plain dicts: to validate and dump fifty models takes longer than to read their rows.

    @get("/v1/voicemail/message", scope=Scope.MESSAGE_READ, summary="List messages, newest first")
    async def list(self, request: Request, query: MessageQuery) -> Page[LineOut]:
        """A page of messages."""
        extension = None if query.extension is None else Extension(query.extension)
        page = await self._messages.page(request.grant, extension, domain=query.domain, limit=query.limit, offset=query.offset)
        data = self._rendering.lines(page.lines, base_url(request.raw, self._public_url))
        return {"data": data, "limit": query.limit, "offset": query.offset, "total": page.total}

    @get(
        "/v1/voicemail/message/{key}",
        scope=Scope.MESSAGE_READ,
        summary="Get a message by its id, or the newest of a mailbox by its extension",
    )
    async def show(self, request: Request, query: DomainQuery) -> MessageOut:
        """One message."""
        message = await self._messages.find(request.grant, request.path["key"], domain=query.domain)
        return self._rendering.message(message, base_url(request.raw, self._public_url))

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        if "key" in request.path:
            await self._messages.find(request.grant, request.path["key"], domain=named_domain(request))
