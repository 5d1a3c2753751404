"""The messages over HTTP."""

from app.access.scopes import Scope
from app.errors import Invalid
from app.http.base_url import base_url
from app.http.domain_query import DomainQuery, named_domain
from app.http.routing import Request, get
from app.messages.actions import MessageActions
from app.messages.pages import Lines
from app.messages.queries import MessagePage, MessageQuery, message_page
from app.messages.rendering import MessageOut, Rendering
from app.messages.search import MessageSearch
from app.messages.service import Messages


class MessageRoutes:
    """List and show messages; no route here changes a message."""

    def __init__(
        self, messages: Messages, search: MessageSearch, actions: MessageActions, rendering: Rendering, public_url: str
    ) -> None:
        self._messages = messages
        self._search = search
        self._actions = actions
        self._rendering = rendering
        self._public_url = public_url

    # The answers are built as plain dicts: to validate and dump fifty models takes longer than to read their rows.

    @get("/v1/voicemail/message", scope=Scope.MESSAGE_READ, summary="List messages, newest first unless sorted otherwise")
    async def list(self, request: Request, query: MessageQuery) -> MessagePage:
        """A page of messages."""
        url = base_url(request.raw, self._public_url)
        if query.trash:
            return await self._trashed(request, query, url)
        page = await self._search.page(
            request.grant,
            query.wanted(query.extensions),
            domain=query.domain,
            sort=query.order,
            cursor=query.cursor,
            limit=query.limit,
            offset=query.offset,
        )
        return message_page(self._rendering.lines(page.lines, url, page.unread), page, query)

    async def _trashed(self, request: Request, query: MessageQuery, url: str) -> MessagePage:
        if query.extensions[1:]:
            raise Invalid.field("extension", "must be one mailbox beside trash")
        extension = query.extensions[0] if query.extensions else None
        trashed = await self._actions.trashed(
            request.grant, extension, domain=query.domain, limit=query.limit, offset=query.offset
        )
        data = self._rendering.trashed(trashed.lines, url, trashed.states)
        return message_page(data, Lines((), trashed.total), query)

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

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        if "key" in request.path:
            await self._messages.find(request.grant, request.path["key"], domain=named_domain(request))
