"""The messages over HTTP."""

from typing import Annotated, Literal

from aiohttp import web
from pydantic import AfterValidator, Field

from app.access.scopes import Scope
from app.addressing import Extension
from app.errors import Invalid
from app.http.base_url import base_url
from app.http.domain_query import DomainQuery, DomainsName, named_domain
from app.http.files import stream
from app.http.paging import Page, Paging
from app.http.routing import Request, get
from app.messages.actions import MessageActions
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
    trash: Annotated[Literal["false", "true"], Field(description="true: those in the trash, and no other ones")] = "false"


class MessageRoutes:
    """List, show and download messages; no route here changes a message."""

    def __init__(self, messages: Messages, actions: MessageActions, rendering: Rendering, public_url: str) -> None:
        self._messages = messages
        self._actions = actions
        self._rendering = rendering
        self._public_url = public_url

    # The answers are built as plain dicts: to validate and dump fifty models takes longer than to read their rows.

    @get("/v1/voicemail/message", scope=Scope.MESSAGE_READ, summary="List messages, newest first")
    async def list(self, request: Request, query: MessageQuery) -> Page[LineOut]:
        """A page of messages."""
        extension = None if query.extension is None else Extension(query.extension)
        url = base_url(request.raw, self._public_url)
        if query.trash == "true":
            trashed = await self._actions.trashed(
                request.grant, extension, domain=query.domain, limit=query.limit, offset=query.offset
            )
            data = self._rendering.trashed(trashed.lines, url, trashed.states)
            return {"data": data, "limit": query.limit, "offset": query.offset, "total": trashed.total}
        page = await self._messages.page(request.grant, extension, domain=query.domain, limit=query.limit, offset=query.offset)
        data = self._rendering.lines(page.lines, url, page.unread)
        return {"data": data, "limit": query.limit, "offset": query.offset, "total": page.total}

    @get(
        "/v1/voicemail/message/{key}",
        scope=Scope.MESSAGE_READ,
        summary="Get a message by its id, or the newest of a mailbox by its extension",
    )
    async def show(self, request: Request, query: DomainQuery) -> MessageOut:
        """One message."""
        message = await self._messages.find(request.grant, request.path["key"], domain=query.domain)
        state = await self._messages.state(message)
        return self._rendering.message(message, base_url(request.raw, self._public_url), state)

    @get(
        "/v1/voicemail/message/{key}/download",
        scope=Scope.MESSAGE_AUDIO,
        summary="Download a message's recording",
        streams="audio/wav",
    )
    async def download_recording(self, request: Request, query: DomainQuery) -> web.StreamResponse:
        """The recording, as the switch made it."""
        audio = await self._messages.audio(request.grant, request.path["key"], domain=query.domain)
        return stream(request.raw, audio)

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        if "key" in request.path:
            await self._messages.find(request.grant, request.path["key"], domain=named_domain(request))
