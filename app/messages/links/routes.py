"""Links to recordings over HTTP: made and revoked with a token, opened without one."""

from datetime import datetime
from typing import Annotated, ClassVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.access.scopes import Scope
from app.http.base_url import base_url
from app.http.domain_query import DomainQuery, named_domain
from app.http.done import Done
from app.http.presence import while_connected
from app.http.routing import Request, Response, delete, get, post
from app.http.schemas import UuidText
from app.http.secret_paths import LINK_PATH
from app.messages.audio_routes import AudioQuery, choice, sent
from app.messages.links.model import Link
from app.messages.links.service import DEFAULT, LONGEST, SHORTEST, Links
from app.messages.service import Messages
from app.recordings.audio.kinds import MEDIA_TYPES

_EXAMPLE: JsonDict = {"expires_in": DEFAULT}


class LinkIn(BaseModel):
    """How long a link works."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})
    OPTIONAL_BODY: ClassVar[bool] = True

    expires_in: Annotated[int, Field(ge=SHORTEST, le=LONGEST, description=f"seconds; {DEFAULT} if left out")] = DEFAULT


class LinkOut(TypedDict):
    """A link, without its address."""

    id: UuidText
    created_at: datetime
    expires_at: datetime
    made_by: Annotated[str, Field(description="the name of the token that made it")]


class LinkMade(TypedDict):
    """A new link; its address is shown this once."""

    url: Annotated[str, Field(description="opens the recording without a token")]
    expires_at: datetime
    id: UuidText


class LinkList(TypedDict):
    """The links of a message."""

    data: list[LinkOut]


class LinkRoutes:
    """Share a recording with somebody who has no token, for a while."""

    def __init__(self, links: Links, messages: Messages, public_url: str) -> None:
        self._links = links
        self._messages = messages
        self._public_url = public_url

    @post(
        "/v1/voicemail/message/{key}/link", scope=Scope.MESSAGE_AUDIO, status=201, summary="Make a link to a message's recording"
    )
    async def create(self, request: Request, query: DomainQuery, body: LinkIn) -> Response[LinkMade]:
        """Its address, which nobody can be told again."""
        link, text = await self._links.create(request.grant, request.path["key"], body.expires_in, domain=query.domain)
        url = f"{base_url(request.raw, self._public_url)}{LINK_PATH}{text}"
        return Response({"url": url, "expires_at": link.expires_at, "id": str(link.id)})

    @get(
        "/v1/voicemail/message/{key}/link",
        scope=Scope.MESSAGE_AUDIO,
        summary="List the links of a message that have not expired, newest first",
    )
    async def list(self, request: Request, query: DomainQuery) -> LinkList:
        """All of them."""
        links = await self._links.of_message(request.grant, request.path["key"], domain=query.domain)
        return {"data": [_out(link) for link in links]}

    @delete("/v1/voicemail/message/{key}/link", scope=Scope.MESSAGE_AUDIO, summary="Revoke all links of a message")
    async def revoke_links(self, request: Request, query: DomainQuery) -> Done:
        """Done, also if there was none."""
        await self._links.revoke(request.grant, request.path["key"], domain=query.domain)
        return Done()

    @delete("/v1/voicemail/message/{key}/link/{link}", scope=Scope.MESSAGE_AUDIO, summary="Revoke a link of a message, by its id")
    async def revoke(self, request: Request, query: DomainQuery) -> Done:
        """Done."""
        await self._links.revoke(request.grant, request.path["key"], request.path["link"], domain=query.domain)
        return Done()

    @get(
        LINK_PATH + "{secret}",
        scope=None,
        summary="Open a link to a recording; nothing is changed by it",
        description="No token is needed. A link that has expired or was revoked, and one that never was, are the same 404.",
        streams=MEDIA_TYPES,
    )
    async def open_link(self, request: Request, query: AudioQuery) -> web.StreamResponse:
        """The recording."""
        origin = request.grant.origin
        opening = self._links.open(request.path["secret"], origin, kind=query.kind, choose=choice(request.raw))
        answer = sent(request.raw, await while_connected(request.raw, opening), query)
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["X-Robots-Tag"] = "noindex"
        return answer

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        if "key" in request.path:
            await self._messages.find(request.grant, request.path["key"], domain=named_domain(request))


def _out(link: Link) -> LinkOut:
    return {"id": str(link.id), "created_at": link.created_at, "expires_at": link.expires_at, "made_by": link.made_by}
