"""A message as the API shows it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath
from typing import (
    Annotated,
    Literal,
    NotRequired,  # pydantic wants this one before Python 3.12
)
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field
from typing_extensions import TypedDict

from app.http.schemas import UuidText
from app.messages import pages
from app.messages.model import Message, RecordingState
from app.messages.pages import Line
from app.messages.trash_store import TrashLine
from app.recordings.model import SUFFIXES
from app.switch.tables.model import readable

_PATH = "/v1/voicemail/message/"
_WHOLE_MINUTES = 94_694_400  # 1973: since then every zone's offset is one of whole minutes
_FAR = 250_000_000_000  # a year of four digits


class AudioOut(TypedDict):
    """What was read in a recording's file."""

    size: Annotated[int, Field(description="bytes")]
    duration: Annotated[float | None, Field(description="seconds, counted in the data; null if the format cannot be read")]
    codec: str
    sha256: Annotated[Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None, Field(description="null: too large to compute")]
    damage: Annotated[str, Field(description="why the facts are missing, such as a header that cannot be true; else empty")]


class LineOut(TypedDict):
    """A message in a list; the first seven keys and their order are fixed."""

    id: UuidText
    created_at: Annotated[
        datetime, Field(description="when it was left, with the offset of the mailbox's time zone, else its domain's")
    ]
    caller_id_name: str
    caller_id_number: str
    duration: Annotated[int, Field(description="whole seconds, as the switch counted them")]
    extension: str
    download_url: str
    read: Annotated[bool, Field(description="whether it was listened to on a phone")]
    domain: Annotated[str, Field(description="of the mailbox")]
    read_at: Annotated[datetime | None, Field(description="when it was listened to first; null: unread")]
    urgent: Annotated[bool, Field(description="whether the caller marked it as urgent")]
    saved: Annotated[bool, Field(description="whether it was saved, on a phone or by PATCH")]
    forwarded_by: Annotated[str, Field(description="the extension that forwarded it; empty: nobody did")]
    size: Annotated[int | None, Field(description="bytes of the recording; null if it was not read yet or is missing")]
    format: Annotated[str, Field(description="of the recording, by its name: wav, mp3 and so on; empty if it has none")]
    recording: Annotated[RecordingState, Field(description="ready, growing (not read yet), missing or damaged (no audio)")]
    mail: Annotated[
        Literal["queued", "sent", "failed", "unknown", "cancelled"] | None,
        Field(description="the state of its notification; null: no mail was to be sent"),
    ]
    deleted_at: NotRequired[Annotated[datetime, Field(description="in the trash only: when it was deleted")]]
    purged_at: NotRequired[Annotated[datetime, Field(description="in the trash only: from when on it is removed for good")]]


class MessageOut(LineOut):
    """A message."""

    audio: Annotated[AudioOut | None, Field(description="null until the file was found and read")]


_STATES = {True: RecordingState.READY, False: RecordingState.DAMAGED}


def format_of(file_path: str) -> str:
    """The format that a recording's name says; empty for what no recording's name ends with."""
    suffix = PurePosixPath(file_path).suffix.lower()
    return suffix.removeprefix(".") if suffix in SUFFIXES else ""


class Rendering:
    """Renders messages with the time of their mailbox: its own time zone, else its domain's, else the service's."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._zones: dict[str | None, ZoneInfo] = {None: zone}

    def lines(self, lines: Iterable[Line], base_url: str, unread: Mapping[str, RecordingState]) -> list[LineOut]:
        """Messages whose downloads are below ``base_url``, such as ``https://voicemail.example.com``.

        ``unread``: the states of recordings that the index does not have, by their ``file_path``.
        """
        prefix, time_in = f"{base_url}{_PATH}", self._time_in
        zones, at = self._zones, datetime.fromtimestamp
        missing = RecordingState.MISSING
        # Calls are what costs here, so the usual case of each value has none.
        return [
            {
                "id": id_ or "",
                "created_at": at(epoch, zones[zone])
                if zone in zones and _WHOLE_MINUTES <= epoch < _FAR
                else time_in(epoch, zone),
                "caller_id_name": name if name.isascii() else readable(name),
                "caller_id_number": number if number.isascii() else readable(number),
                "duration": duration,
                "extension": extension if extension.isascii() else readable(extension),
                "download_url": f"{prefix}{id_}/download",
                "read": read > 0,
                "domain": domain if domain.isascii() else readable(domain),
                "read_at": time_in(read, zone) if read > 0 else None,
                "urgent": urgent,
                "saved": saved,
                "forwarded_by": by if by.isascii() else readable(by),
                "size": size,
                "format": "wav" if path[-4:] == ".wav" else format_of(path),
                "recording": unread.get(path, missing) if whole is None else _STATES[whole],
                "mail": mail,  # type: ignore[typeddict-item] # the names are the same
            }
            for id_, epoch, name, number, duration, read, extension, domain, urgent, saved, by, path, size, whole, mail, zone,
                _, _ in lines
        ]  # fmt: skip

    def trashed(self, lines: Iterable[TrashLine], base_url: str, states: Mapping[str, RecordingState]) -> list[LineOut]:
        """Messages in the trash; ``states``: of their recordings, by the message's id."""
        return [self._trashed(line, base_url, states[line.id]) for line in lines]

    def _trashed(self, line: TrashLine, base_url: str, state: RecordingState) -> LineOut:
        message = Message(UUID(line.id), line.row, None, line.time_zone, line.mail)
        out = self.lines([pages.line(message, 0)], base_url, {line.row.file_path: state})[0]
        out["size"] = line.size
        zone = self._named(line.time_zone)
        out["deleted_at"], out["purged_at"] = _to_the_second(line.deleted_at, zone), _to_the_second(line.ends_at, zone)
        return out

    def message(self, message: Message, base_url: str, state: RecordingState) -> MessageOut:
        """One message whose download is below ``base_url``, and whose recording has this state."""
        facts = message.recording
        line = self.lines([pages.line(message, 0)], base_url, {})[0]
        line["recording"] = state
        audio: AudioOut | None = None
        if facts is not None:
            audio = {
                "size": facts.size,
                "duration": facts.duration,
                "codec": facts.codec,
                "sha256": facts.sha256,
                "damage": facts.damage,
            }
        return {**line, "audio": audio}

    def time(self, message: Message) -> datetime:
        """When a message was left, where its mailbox is."""
        return self._time_in(message.created_epoch, message.time_zone)

    def _time_in(self, epoch: int, zone: str | None) -> datetime:
        """When a message was left, where its mailbox is; an impossible time reads as 1970."""
        where = self._named(zone)
        if _WHOLE_MINUTES <= epoch < _FAR:
            return datetime.fromtimestamp(epoch, where)
        try:
            return _whole_minutes(datetime.fromtimestamp(epoch, where))
        except (OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(0, UTC).astimezone(where)

    def _named(self, name: str | None) -> ZoneInfo:
        if name is not None and name not in self._zones:
            try:
                self._zones[name] = ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError):
                self._zones[name] = self._zone
        return self._zones[name]


def _to_the_second(time: datetime, zone: ZoneInfo) -> datetime:
    return time.astimezone(zone).replace(microsecond=0)


def _whole_minutes(time: datetime) -> datetime:
    """The time with an offset that RFC 3339 can write: local mean times of long ago have seconds in theirs."""
    offset = time.utcoffset() or timedelta()
    if not offset.seconds % 60:
        return time
    return time.astimezone(timezone(timedelta(minutes=round(offset / timedelta(minutes=1)))))
