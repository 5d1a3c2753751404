"""The messages of one mailbox over HTTP."""

from app.access.scopes import Scope
from app.http.base_url import base_url
from app.http.domain_query import DomainQuery, named_domain
from app.http.routing import Request, get
from app.mailboxes.counted import CountsOut
from app.messages.mailbox import MailboxMessages
from app.messages.queries import MailboxMessageQuery, MessagePage, message_page
from app.messages.rendering import Rendering
from app.messages.search import MessageSearch


class MailboxMessageRoutes:
    """List and count the messages of one mailbox."""

    def __init__(self, mailboxes: MailboxMessages, search: MessageSearch, rendering: Rendering, public_url: str) -> None:
        self._mailboxes = mailboxes
        self._search = search
        self._rendering = rendering
        self._public_url = public_url

    @get("/v1/voicemail/{key}/message", scope=Scope.MESSAGE_READ, summary="List the messages of a mailbox")
    async def list_mailbox_messages(self, request: Request, query: MailboxMessageQuery) -> MessagePage:
        """A page of messages, newest first unless sorted otherwise."""
        mailbox = await self._mailboxes.mailbox(request.grant, request.path["key"], domain=query.domain)
        page = await self._search.page(
            request.grant,
            query.wanted((mailbox.extension,)),
            domain=mailbox.domain,
            sort=query.order,
            cursor=query.cursor,
            limit=query.limit,
            offset=query.offset,
        )
        data = self._rendering.lines(page.lines, base_url(request.raw, self._public_url), page.unread)
        return message_page(data, page, query)

    @get("/v1/voicemail/{key}/count", scope=Scope.MESSAGE_READ, summary="Count the messages of a mailbox")
    async def count_mailbox_messages(self, request: Request, query: DomainQuery) -> CountsOut:
        """The counts, read from the switch's table at this moment."""
        return (await self._mailboxes.count(request.grant, request.path["key"], domain=query.domain)).out()

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the mailbox of the path does not exist for the caller."""
        await self._mailboxes.mailbox(request.grant, request.path["key"], domain=named_domain(request))
