"""The recordings of messages over HTTP: download, waveform, and several in a ZIP."""

from typing import Annotated, Literal
from uuid import UUID

from aiohttp import hdrs, web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.access.scopes import Scope
from app.http.accept import preferred
from app.http.archives import Archive
from app.http.domain_query import DomainName, DomainQuery, named_domain
from app.http.files import Disposition, Representation, stream
from app.http.paging import whole_number
from app.http.presence import while_connected
from app.http.routing import Request, get, post
from app.messages.audio import Audio, Choose, MessageAudio
from app.messages.selection import MOST, Selection
from app.messages.service import Messages
from app.recordings.audio.kinds import MEDIA_TYPES, Kind
from app.recordings.audio.peaks import MOST_POINTS

_EXAMPLE: JsonDict = {"ids": ["1b3a1aaa-dc37-49a7-b048-45dfc10abec6", "ec3e1941-405a-479e-b1e1-fb3cb69ef20c"]}


class AudioQuery(BaseModel):
    """How a recording is wanted."""

    format: (
        Annotated[
            Literal["wav", "mp3", "ogg"], Field(description="convert it; without this, Accept chooses, else it is sent as it is")
        ]
        | None
    ) = None
    disposition: Annotated[Disposition, Field(description="inline: for a player in a page")] | None = None

    @property
    def kind(self) -> Kind | None:
        """The format, if the query names one."""
        return None if self.format is None else Kind(self.format)


class DownloadQuery(DomainQuery, AudioQuery):
    """Which recording is wanted, and how."""


class WaveformQuery(DomainQuery):
    """How fine a waveform is wanted."""

    points: Annotated[int, Field(ge=1, le=MOST_POINTS, description="how many peaks"), BeforeValidator(whole_number)] = 200


class WaveformOut(TypedDict):
    """How loud a recording is over time."""

    peaks: Annotated[list[float], Field(description="the loudest sample of each part, 0 to 1; none if there is no sound at all")]
    duration: Annotated[float, Field(description="seconds, counted in the data")]


class SelectionIn(BaseModel):
    """Whose recordings are wanted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    ids: Annotated[list[UUID], Field(min_length=1, max_length=MOST, description="of messages")]
    domain: DomainName = None


class AudioRoutes:
    """Hear messages: their recordings in any format, how loud they are, or several in one file. No call changes a message."""

    def __init__(self, messages: Messages, audio: MessageAudio, selection: Selection) -> None:
        self._messages = messages
        self._audio = audio
        self._selection = selection

    @get(
        "/v1/voicemail/message/{key}/download",
        scope=Scope.MESSAGE_AUDIO,
        summary="Download a message's recording",
        description="As the switch made it, or converted as format or Accept asks. Ranges and conditions are those of RFC 9110.",
        streams=MEDIA_TYPES,
    )
    async def download_recording(self, request: Request, query: DownloadQuery) -> web.StreamResponse:
        """The recording."""
        opening = self._audio.open(
            request.grant, request.path["key"], domain=query.domain, kind=query.kind, choose=choice(request.raw)
        )
        return sent(request.raw, await while_connected(request.raw, opening), query)

    @get(
        "/v1/voicemail/message/{key}/waveform",
        scope=Scope.MESSAGE_AUDIO,
        summary="Get how loud a message's recording is over time, for a picture of it",
    )
    async def get_waveform(self, request: Request, query: WaveformQuery) -> WaveformOut:
        """Its peaks."""
        finding = self._audio.waveform(request.grant, request.path["key"], query.points, domain=query.domain)
        found = await while_connected(request.raw, finding)
        return {"peaks": found.peaks, "duration": found.duration}

    @post(
        "/v1/voicemail/message/download",
        scope=Scope.MESSAGE_AUDIO,
        summary="Download the recordings of several messages as a ZIP",
        description="As the switch made them, under names that tell when and who. MISSING.txt names what is missing, and why.",
        streams=("application/zip",),
    )
    async def download_selection(self, request: Request, body: SelectionIn) -> web.StreamResponse:
        """The archive."""
        members = await self._selection.members(request.grant, body.ids, domain=body.domain)
        return Archive("voicemail.zip", members)

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the message of the path does not exist for the caller."""
        if "key" in request.path:
            await self._messages.find(request.grant, request.path["key"], domain=named_domain(request))


def choice(request: web.Request) -> Choose:
    """What ``Accept`` chooses between a recording as it is and the formats that it can be converted to."""
    wanted = request.headers.getall(hdrs.ACCEPT, [])
    return lambda is_now: preferred(wanted, [is_now, *(kind.media_type for kind in Kind if kind.media_type != is_now)])


def sent(request: web.Request, audio: Audio, query: AudioQuery) -> web.StreamResponse:
    """The answer with a recording."""
    shown = Representation(
        audio.name, audio.media_type, audio.tag, audio.modified, query.disposition or "attachment", varies=query.format is None
    )
    return stream(request, audio.content, shown)
