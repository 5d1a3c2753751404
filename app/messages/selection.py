"""The recordings of several messages as one ZIP, under names that people understand."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from uuid import UUID

from app.access.audit.readings import Readings
from app.access.grant import Grant
from app.errors import Invalid, NotFound, VoicemailError
from app.http.archives import Member
from app.messages.audio import reading
from app.messages.model import Message
from app.messages.rendering import Rendering
from app.messages.service import Messages
from app.recordings.storage import OpenRecording, RecordingStorage
from app.text import one_line

MOST = 1000  # messages
_LARGEST = 2 * 1024**3 - 2**20  # bytes of all recordings: what every unpacker can read
_MISSING = "MISSING.txt"
# What some file system or its programs take for something else.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
_SUFFIX = re.compile(r"\.[0-9A-Za-z]{1,8}")
_LONGEST = 120  # bytes of a name without its suffix; some archives' readers take 255 with a folder


class Selection:
    """Reads the recordings of messages one after the other."""

    def __init__(self, messages: Messages, storage: RecordingStorage, readings: Readings, rendering: Rendering) -> None:
        self._messages = messages
        self._storage = storage
        self._readings = readings
        self._rendering = rendering

    async def members(self, grant: Grant, ids: Sequence[UUID], *, domain: str | None = None) -> AsyncGenerator[Member, None]:
        """The files of an archive, each opened when it is its turn; what is missing is named in a text file, which comes last.

        Raises ``NotFound`` if none of the messages exists for the caller, and ``Invalid`` if they are too large together.
        The audit has all of them before anybody else.
        """
        wanted = list(dict.fromkeys(ids))
        found = await self._messages.find_many(grant, wanted, domain=domain)
        if not found:
            raise NotFound("there is no such message")
        if await asyncio.to_thread(self._size, list(found.values())) > _LARGEST:
            raise Invalid.field("ids", "their recordings have more than 2 GiB together: ask for fewer at once")
        await self._readings.note(*(reading(grant, message, detail="in a ZIP") for message in found.values()))
        return self._read(wanted, found)

    async def _read(self, wanted: Sequence[UUID], found: dict[UUID, Message]) -> AsyncGenerator[Member, None]:
        names, missing = Names(), []
        for id_ in wanted:
            message = found.get(id_)
            if message is None:
                missing.append(f"{id_}: there is no such message")
                continue
            at = self._rendering.time(message)
            try:
                recording = await asyncio.to_thread(self._open, message)
            except (VoicemailError, OSError) as error:
                reason = error.detail if isinstance(error, VoicemailError) else error.strerror
                missing.append(f"{id_}: {one_line(reason or '', 200)}")
                continue
            name = names.take(described(message, at), PurePosixPath(recording.name).suffix)
            yield Member(name, at, recording)
            if recording.stopped_at is not None:
                missing.append(f"{id_}: {name} is incomplete, because the recording became shorter while it was read")
        if missing:
            text = "These messages are not in this archive, or not whole:\r\n\r\n" + "\r\n".join(missing) + "\r\n"
            yield Member(names.take(PurePosixPath(_MISSING).stem, ".txt"), datetime.now(UTC), text.encode())

    def _open(self, message: Message) -> "Watched":
        recording = self._storage.open(self._storage.key(message.file_path))
        return Watched(recording)

    def _size(self, messages: Sequence[Message]) -> int:
        total = 0
        for message in messages:
            try:
                total += self._storage.stat(self._storage.key(message.file_path)).size
            except VoicemailError:
                continue  # it will be named as missing
        return total


def described(message: Message, at: datetime) -> str:
    """``2026-11-25 0930 0891234567 Alice 7s``, safe as a file's name whatever the caller sent."""
    number, name = _plain(message.caller_number, 40), _plain(message.caller_name, 60)
    words = [f"{at:%Y-%m-%d %H%M}", number, "" if name == number else name, f"{max(message.duration, 0)}s"]
    return " ".join(word for word in words if word)


def _plain(text: str, limit: int) -> str:
    """Text of a caller for a file's name: one line, without what a system reads as a path, and without dots at its ends."""
    shown = _UNSAFE.sub("_", one_line(unicodedata.normalize("NFC", text[: limit * 8]), limit))
    cut = shown.replace("\ufffd", "_").encode()[:limit].decode(errors="ignore")
    return cut.strip(" ._")


class Names:
    """The names of one archive: short enough, and different also to systems that take capitals for small letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, stem: str, suffix: str) -> str:
        """A name that begins like this and was not taken yet."""
        suffix = suffix.lower() if _SUFFIX.fullmatch(suffix) else ""
        stem = stem.encode()[:_LONGEST].decode(errors="ignore").rstrip(" .")
        number, name = 1, stem + suffix
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem} ({number}){suffix}"
        self._taken.add(name.casefold())
        return name


class Watched:
    """A recording that notes whether it ended before its size."""

    def __init__(self, recording: OpenRecording) -> None:
        self._recording = recording
        self.name = recording.name
        self.opened = recording.opened
        self.stopped_at: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        """As the recording does."""
        piece = self._recording.read(offset, length)
        if len(piece) < length:
            self.stopped_at = offset + len(piece)
        return piece

    def close(self) -> None:
        """Close the recording."""
        self._recording.close()
