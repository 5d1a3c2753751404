"""The recordings of messages: as they are, in another format, or how loud they are. Each reading is audited first."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from app.access.audit.model import Action, AuditEntry, Result
from app.access.audit.readings import Readings
from app.access.grant import Grant
from app.errors import Unavailable
from app.messages.model import Message
from app.messages.service import Messages
from app.recordings.audio.conversions import Conversions, Unconvertible
from app.recordings.audio.kinds import HEAD, Kind, media_type, renamed
from app.recordings.audio.peaks import Waveform
from app.recordings.storage import OpenRecording, RecordingStorage
from app.recordings.wav import wav_data

Choose = Callable[[str], str]
"""Which media type a client prefers, given that of the recording as it is."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording as it is sent. Whoever has it closes its content."""

    content: OpenRecording
    name: str
    media_type: str
    tag: str  # differs for every version and format of the recording
    modified: int  # seconds since 1970


def reading(grant: Grant, message: Message, action: Action = Action.MESSAGE_AUDIO, detail: str = "") -> AuditEntry:
    """The row of the audit about a reading of a message's recording."""
    row = message.row
    return AuditEntry.of(
        grant, action, domain=row.domain, extension=row.username, target=message.id, detail=detail, result=Result.ALLOWED
    )


class MessageAudio:
    """Opens recordings for callers that may hear them."""

    def __init__(self, messages: Messages, storage: RecordingStorage, readings: Readings, conversions: Conversions) -> None:
        self._messages = messages
        self._storage = storage
        self._readings = readings
        self._conversions = conversions

    async def open(
        self,
        grant: Grant,
        key: str,
        *,
        domain: str | None = None,
        kind: Kind | None = None,
        choose: Choose | None = None,
        detail: str = "",
    ) -> Audio:
        """The recording of the message that ``find`` finds, open: in the format ``kind``, or else as ``choose`` chooses.

        A format that was only preferred is left alone if the recording cannot be converted. Raises ``NotFound``, also if the
        recording is gone or outside the recordings folder; ``Unconvertible``; and ``Unavailable``.
        """
        message = await self._messages.find(grant, key, domain=domain)
        source, kept_at, is_now, plain = await self._source(message)
        try:
            wanted = kind or _preferred(choose, is_now)
            audio = _as_it_is(source, is_now)
            if wanted is not None and not (is_now == wanted.media_type and plain):
                try:
                    audio = await self._converted(source, kept_at, wanted)
                except (Unconvertible, Unavailable):
                    if kind is not None:
                        raise
            await self._readings.note(reading(grant, message, detail=detail))
        except BaseException:
            source.close()
            raise
        if audio.content is not source:
            source.close()
        return audio

    async def waveform(self, grant: Grant, key: str, points: int, *, domain: str | None = None) -> Waveform:
        """How loud a message's recording is over time. Raises as ``open`` does."""
        message = await self._messages.find(grant, key, domain=domain)
        source, kept_at, _, _ = await self._source(message)
        with source:
            found = await self._conversions.waveform(source, kept_at, points)
        await self._readings.note(reading(grant, message, Action.MESSAGE_WAVEFORM))
        return found

    async def _source(self, message: Message) -> tuple[OpenRecording, str, str, bool]:
        """A message's recording, open; its key; its media type; and whether every player of that type plays it."""

        def opened() -> tuple[OpenRecording, str, str, bool]:
            key = self._storage.key(message.file_path)
            recording = self._storage.open(key)
            try:
                is_now = media_type(recording.read(0, HEAD), recording.name)
                return recording, key, is_now, is_now != Kind.WAV.media_type or _is_plain_wav(recording)
            except BaseException:
                recording.close()
                raise

        return await asyncio.to_thread(opened)

    async def _converted(self, source: OpenRecording, key: str, kind: Kind) -> Audio:
        made = await self._conversions.converted(source, key, kind)
        original = _as_it_is(source, kind.media_type)
        name = renamed(source.name, kind)
        return Audio(made, name, kind.media_type, f"{original.tag}-{self._conversions.tag(kind)}", original.modified)


def _as_it_is(source: OpenRecording, is_now: str) -> Audio:
    facts = source.opened
    return Audio(source, source.name, is_now, f"{facts.mtime_ns:x}-{facts.size:x}", facts.mtime_ns // 1_000_000_000)


def _is_plain_wav(recording: OpenRecording) -> bool:
    with open(recording.descriptor, "rb", buffering=0, closefd=False) as file:
        found = wav_data(file, recording.opened.size)
    return found is not None and found.is_plain


def _preferred(choose: Choose | None, is_now: str) -> Kind | None:
    chosen = choose(is_now) if choose else is_now
    return None if chosen == is_now else next((kind for kind in Kind if kind.media_type == chosen), None)
