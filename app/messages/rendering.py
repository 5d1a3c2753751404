"""A message as the API shows it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import TypedDict
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.messages.model import Message, readable


class RecordingJson(TypedDict):
    """What is known of a recording's file."""

    size: int
    duration: float | None
    codec: str
    sha256: str


class MessageJson(TypedDict):
    """A message; the first seven keys and their order are fixed."""

    id: str
    created_at: str
    caller_id_name: str
    caller_id_number: str
    duration: int
    extension: str
    download_url: str
    read: bool
    recording: RecordingJson | None


class Rendering:
    """Renders messages with the time of their mailbox, which without a time zone of its own has the service's."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._zones: dict[str, ZoneInfo] = {}

    def messages(self, messages: Iterable[Message], base_url: str) -> list[MessageJson]:
        """Messages whose downloads are below ``base_url``, such as ``https://voicemail.example.com``."""
        return [self.message(message, base_url) for message in messages]

    def message(self, message: Message, base_url: str) -> MessageJson:
        """One message whose download is below ``base_url``."""
        facts, row, id_ = message.recording, message.row, str(message.id)
        return {
            "id": id_,
            "created_at": self.local_time(message).isoformat(timespec="seconds"),
            "caller_id_name": message.caller_name,
            "caller_id_number": message.caller_number,
            "duration": max(row.duration, 0),
            "extension": readable(row.username),
            "download_url": f"{base_url}/v1/voicemail/message/{id_}/download",
            "read": row.read_epoch > 0,
            "recording": None
            if facts is None
            else {"size": facts.size, "duration": facts.duration, "codec": facts.codec, "sha256": facts.sha256},
        }

    def local_time(self, message: Message) -> datetime:
        """When the message was left, where its mailbox is; an impossible time reads as 1970."""
        zone = self._zone if message.time_zone is None else self._named(message.time_zone)
        try:
            return _whole_minutes(datetime.fromtimestamp(message.created_epoch, zone))
        except (OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(0, UTC).astimezone(zone)

    def _named(self, name: str) -> ZoneInfo:
        if name not in self._zones:
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
