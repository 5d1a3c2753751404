"""The greetings over HTTP."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.access.scopes import Scope
from app.addressing import MailboxKey
from app.greetings.model import Greeting, Slot
from app.greetings.service import GreetingService
from app.http.conditions import conditional, if_match
from app.http.domain_query import DomainQuery, named_domain
from app.http.done import Done
from app.http.files import Representation, stream
from app.http.routing import Request, delete, get, post, put
from app.http.uploads import read_audio
from app.recordings.conversion import LARGEST_UPLOAD, TYPES

_ALL = "/v1/voicemail/{key}/greeting"
_ONE = "/v1/voicemail/{key}/greeting/{slot}"
_UPLOAD = (
    "The body is the audio itself: WAV, MP3 or Ogg (Vorbis or Opus) of at most 10 MiB and 3 minutes. It is converted to WAV of "
    "8 kHz, one channel and 16 bits. The recorded name is active at once."
)


class UploadQuery(DomainQuery):
    """Whether the greeting is to be played from now on."""

    activate: Annotated[bool, Field(description="have the switch play it from now on")] = False


class GreetingOut(TypedDict):
    """A slot that is filled."""

    slot: Annotated[str, Field(description="1 to 9, or name: the recorded name")]
    active: Annotated[bool, Field(description="whether the switch has it as the greeting, or as the recorded name")]
    duration: Annotated[float | None, Field(description="seconds; null if it is no WAV file that can be read")]
    size: Annotated[int, Field(description="bytes")]
    modified_at: datetime


class GreetingsOut(TypedDict):
    """A mailbox's filled slots."""

    data: list[GreetingOut]
    plays: Annotated[
        Literal["default", "name", "greeting", "other"],
        Field(description="what callers hear; other: a file that is none of the slots'"),
    ]


class GreetingSet(TypedDict):
    """The slot as it is now."""

    data: GreetingOut
    message: Literal["successfully"]


class GreetingRoutes:
    """List, upload, download, activate and delete the greetings of a mailbox."""

    def __init__(self, greetings: GreetingService) -> None:
        self._greetings = greetings

    @get(_ALL, scope=Scope.MAILBOX_READ, summary="List a mailbox's greetings and its recorded name")
    async def list(self, request: Request, query: DomainQuery) -> GreetingsOut:
        """The filled slots, and what callers hear."""
        found = await self._greetings.all(request.grant, _key(request), asked=query.domain)
        return {"data": [_out(greeting) for greeting in found.filled], "plays": found.plays.value}

    @post(f"{_ALL}/default", scope=Scope.MAILBOX_WRITE, summary="Have the switch play its default greeting")
    async def reset_greeting(self, request: Request, query: DomainQuery) -> Done:
        """Done."""
        await self._greetings.reset(request.grant, _key(request), asked=query.domain)
        return Done()

    @get(_ONE, scope=Scope.MAILBOX_READ, summary="Download a greeting", streams=("audio/wav",))
    async def download(self, request: Request, query: DomainQuery) -> web.StreamResponse:
        """The greeting's file."""
        audio = await self._greetings.audio(request.grant, _key(request), _slot(request), asked=query.domain)
        facts = audio.opened
        return stream(request.raw, audio, Representation(audio.name, "audio/wav", facts.version, facts.mtime_ns // 1_000_000_000))

    @put(_ONE, scope=Scope.MAILBOX_WRITE, summary="Upload a greeting", description=_UPLOAD, uploads=TYPES)
    @conditional
    async def upload(self, request: Request, query: UploadQuery) -> GreetingSet:
        """The slot as it is now."""
        await self.admit(request)
        slot, only_if = _slot(request), if_match(request.raw)
        data = await read_audio(request.raw, LARGEST_UPLOAD)
        greeting = await self._greetings.put(
            request.grant, _key(request), slot, data, activate=query.activate, asked=query.domain, only_if=only_if
        )
        return {"data": _out(greeting), "message": "successfully"}

    @post(f"{_ONE}/activate", scope=Scope.MAILBOX_WRITE, summary="Have the switch play a greeting")
    async def activate(self, request: Request, query: DomainQuery) -> Done:
        """Done."""
        await self._greetings.activate(request.grant, _key(request), _slot(request), asked=query.domain)
        return Done()

    @delete(_ONE, scope=Scope.MAILBOX_WRITE, summary="Delete a greeting; if it was active, callers hear the default")
    @conditional
    async def remove(self, request: Request, query: DomainQuery) -> Done:
        """Done."""
        only_if = if_match(request.raw)
        await self._greetings.delete(request.grant, _key(request), _slot(request), asked=query.domain, only_if=only_if)
        return Done()

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the mailbox of the path does not exist for the caller."""
        await self._greetings.address(request.grant, _key(request), named_domain(request))


def _key(request: Request) -> MailboxKey:
    return MailboxKey.parse(request.path["key"])


def _slot(request: Request) -> Slot:
    return Slot.parse(request.path["slot"])


def _out(greeting: Greeting) -> GreetingOut:
    return {
        "slot": greeting.slot,
        "active": greeting.active,
        "duration": greeting.seconds,
        "size": greeting.size,
        "modified_at": datetime.fromtimestamp(greeting.modified, UTC),
    }
