"""Leaving a message over HTTP."""

from typing import Annotated

from pydantic import AfterValidator, Field

from app.access.scopes import Scope
from app.addressing import MailboxKey
from app.http.base_url import base_url
from app.http.domain_query import DomainQuery, named_domain
from app.http.routing import Request, Response, post
from app.http.uploads import read_audio
from app.messages.leaving import Caller, Leaving
from app.messages.lost import caller_text
from app.messages.model import RecordingState
from app.messages.rendering import MessageOut, Rendering
from app.recordings.conversion import LARGEST_UPLOAD, TYPES

_DESCRIPTION = (
    "The body is the audio itself: WAV, MP3 or Ogg (Vorbis or Opus) of at most 10 MiB and 10 minutes. What follows is what "
    "follows a call: the message is in the mailbox, its phones are told, and it is mailed."
)


def _printable(text: str) -> str:
    if caller_text(text) != text:
        raise ValueError("must be printable, without line breaks, and without spaces at its ends or side by side")
    return text


CallerField = Annotated[
    str,
    AfterValidator(_printable),
    Field(max_length=255, description="anonymous if left out", examples=["0891234567"]),
]


class LeaveQuery(DomainQuery):
    """Who calls."""

    caller_id_name: CallerField = ""
    caller_id_number: CallerField = ""
    urgent: Annotated[bool, Field(description="as a caller who marks the message urgent")] = False


class LeavingRoutes:
    """Leave messages as calls do."""

    def __init__(self, leaving: Leaving, rendering: Rendering, public_url: str) -> None:
        self._leaving, self._rendering, self._public_url = leaving, rendering, public_url

    @post(
        "/v1/voicemail/{key}/message",
        scope=Scope.MESSAGE_WRITE,
        summary="Leave a message in a mailbox",
        status=201,
        description=_DESCRIPTION,
        uploads=TYPES,
    )
    async def leave_message(self, request: Request, query: LeaveQuery) -> Response[MessageOut]:
        """The message, which is in the mailbox now."""
        await self.admit(request)
        data = await read_audio(request.raw, LARGEST_UPLOAD)
        caller = Caller(query.caller_id_name, query.caller_id_number, query.urgent)
        message = await self._leaving.leave(
            request.grant, MailboxKey.parse(request.path["key"]), data, caller, asked=query.domain
        )
        out = self._rendering.message(message, base_url(request.raw, self._public_url), RecordingState.READY)
        return Response(out, headers={"Location": f"/v1/voicemail/message/{message.id}"})

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the mailbox of the path does not exist for the caller."""
        await self._leaving.mailbox(request.grant, MailboxKey.parse(request.path["key"]), asked=named_domain(request))
