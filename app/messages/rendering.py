"""A message as the API shows it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.http.schemas import UuidText
from app.messages.model import Message
from app.messages.pages import Line
from app.switch.tables.model import readable

_PATH = "/v1/voicemail/message/"
_WHOLE_MINUTES = 94_694_400  # 1973: since then every zone's offset is one of whole minutes
_FAR = 250_000_000_000  # a year of four digits


class RecordingOut(TypedDict):
    """What is known of a recording's file."""

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


class MessageOut(LineOut):
    """A message."""

    recording: Annotated[RecordingOut | None, Field(description="null until the file was found and read")]


class Rendering:
    """Renders messages with the time of their mailbox: its own time zone, else its domain's, else the service's."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._zones: dict[str | None, ZoneInfo] = {None: zone}

    def lines(self, lines: Iterable[Line], base_url: str) -> list[LineOut]:
        """Messages whose downloads are below ``base_url``, such as ``https://voicemail.example.com``."""
        prefix, time_in = f"{base_url}{_PATH}", self._time_in
        zones, at = self._zones, datetime.fromtimestamp
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
                "read": read,
                "domain": domain if domain.isascii() else readable(domain),
            }
            for id_, epoch, name, number, duration, read, extension, domain, zone, _ in lines
        ]

    def message(self, message: Message, base_url: str) -> MessageOut:
        """One message whose download is below ``base_url``."""
        facts, row, id_ = message.recording, message.row, str(message.id)
        return {
            "id": id_,
            "created_at": self._time_in(message.created_epoch, message.time_zone),
            "caller_id_name": message.caller_name,
            "caller_id_number": message.caller_number,
            "duration": max(row.duration, 0),
            "extension": readable(row.username),
            "download_url": f"{base_url}{_PATH}{id_}/download",
            "read": row.read_epoch > 0,
            "domain": readable(row.domain),
            "recording": None
            if facts is None
            else {
                "size": facts.size,
                "duration": facts.duration,
                "codec": facts.codec,
                "sha256": facts.sha256,
                "damage": facts.damage,
            },
        }

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


def _whole_minutes(time: datetime) -> datetime:
    """The time with an offset that RFC 3339 can write: local mean times of long ago have seconds in theirs."""
    offset = time.utcoffset() or timedelta()
    if not offset.seconds % 60:
        return time
    return time.astimezone(timezone(timedelta(minutes=round(offset / timedelta(minutes=1)))))
