"""What mod_voicemail does with messages, whoever asks for it: store, delete, mark, and send MWI."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import structlog

from app.errors import DatabaseFailed
from app.sandbox.directory import Directories, DirectoryEntry
from app.sandbox.events import EventSource
from app.sandbox.tables import NewMessage, StandInTables

log = structlog.get_logger(__name__)

SUBCLASS = "vm::maintenance"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who leaves a message, as the phone network says."""

    name: str
    number: str


@dataclass(frozen=True, slots=True)
class LeftMessage:
    """A message that a caller has left; ``stored`` is False if the switch could not write its row."""

    extension: str
    uuid: str
    path: Path
    stored: bool


class Mailboxes:
    """The mailboxes of one profile: the directory's users, their messages in the tables, their recordings on disk."""

    def __init__(
        self,
        tables: StandInTables,
        directory: Directories,
        events: EventSource,
        recordings: Path,
        *,
        domain: str,
        profile: str,
    ) -> None:
        self.tables, self.directory, self.recordings = tables, directory, recordings
        self.domain, self.profile = domain, profile
        self._events = events

    def user(self, user_id: str, domain: str) -> DirectoryEntry | None:
        """The directory's user."""
        return self.directory.of(domain).find(user_id)

    def keeps(self, extension: str, domain: str) -> bool:
        """Whether a message is stored at all: otherwise mod_voicemail mails it by itself, and keeps neither row nor file."""
        user = self.user(extension, domain)
        return user is not None and user.params.get("vm-keep-local-after-email", "true") != "false"

    def folder(self, domain: str, extension: str) -> Path:
        """Where a mailbox's recordings are."""
        return self.recordings / domain / extension

    async def store(self, message: NewMessage) -> bool:
        """Announce a recording and write its row, in this order; whether the row was written."""
        self._announce(message)
        clean = replace(message, caller_name=_text(message.caller_name), caller_number=_text(message.caller_number))
        stored = True
        try:
            await self.tables.insert(clean)
        except DatabaseFailed as error:
            # As mod_voicemail: it does not look at what became of its INSERT, and goes on.
            log.warning("stand_in_row_lost", extension=message.username, uuid=message.uuid, error=type(error).__name__)
            stored = False
        try:
            await self.light(message.username, message.domain, "NEW")
        except DatabaseFailed as error:
            log.warning("stand_in_mwi_lost", extension=message.username, error=type(error).__name__)
        return stored

    def message(self, extension: str, domain: str, uuid: str, path: Path, caller: Caller, *, seconds: int) -> NewMessage:
        """A message of now for a mailbox."""
        return NewMessage(int(time.time()), extension, domain, uuid, caller.name, caller.number, str(path), seconds)

    async def greeting(self, extension: str, domain: str) -> Path | None:
        """The file that a caller hears before the beep; None: the switch's own words, of which nothing is recorded here."""
        prefs = await self.tables.prefs(extension, domain)
        paths = (Path(prefs.get(name) or "/nothing") for name in ("greeting_path", "name_path"))
        return next((path for path in paths if path.is_file()), None)

    async def inject(self, extension: str, domain: str, source: Path, caller: Caller) -> None:
        """Put a copy of an audio file into a mailbox; one that is not there is passed over."""
        if not self.keeps(extension, domain):
            return
        uuid = str(uuid4())
        path = self.folder(domain, extension) / f"msg_{uuid}_broadcast_{source.name}"
        try:
            data = await asyncio.to_thread(_copy, source, path)
        except OSError:
            return
        await self.store(self.message(extension, domain, uuid, path, caller, seconds=audio_seconds(data)))

    async def delete(self, extension: str, domain: str, uuid: str | None) -> None:
        """Delete a uuid wherever it is, or all of a mailbox, with the files."""
        _unlink(await self.tables.delete(extension, domain, uuid))
        await self.light(extension, domain, "DELETE")

    async def purge(self, extension: str, domain: str) -> None:
        """Delete what is flagged for it, with the files."""
        _unlink(await self.tables.purge(extension, domain))
        await self.light(extension, domain, "PURGE")

    async def light(self, extension: str, domain: str, reason: str) -> None:
        """Tell the phones and the listeners how many messages there are."""
        counts = await self.tables.count(extension, domain)
        waiting = {
            "MWI-Messages-Waiting": "yes" if counts.new else "no",
            "Update-Reason": reason,
            "MWI-Message-Account": f"{extension}@{domain}",
            "MWI-Voice-Message": f"{counts.new}/{counts.saved}",
        }
        if counts.new_urgent or counts.saved_urgent:
            waiting["MWI-Voice-Message"] += f" ({counts.new_urgent}/{counts.saved_urgent})"
        self._events.fire("MESSAGE_WAITING", waiting, source="update_mwi")
        totals = {
            "VM-Action": "mwi-update", "VM-User": extension, "VM-Domain": domain,
            "VM-Total-New": str(counts.new), "VM-Total-Saved": str(counts.saved),
            "VM-Total-New-Urgent": str(counts.new_urgent), "VM-Total-Saved-Urgent": str(counts.saved_urgent),
        }  # fmt: skip
        self._events.fire("CUSTOM", totals, subclass=SUBCLASS, source="update_mwi")

    def _announce(self, message: NewMessage) -> None:
        left = {
            "VM-Action": "leave-message", "VM-User": message.username, "VM-Domain": message.domain,
            "VM-Caller-ID-Name": message.caller_name, "VM-Caller-ID-Number": message.caller_number,
            "VM-File-Path": message.path, "VM-Flags": "B_NORMAL", "VM-Folder": "inbox", "VM-UUID": message.uuid,
            "VM-Message-Len": str(message.seconds), "VM-Timestamp": str(message.created_epoch),
        }  # fmt: skip
        self._events.fire("CUSTOM", left, subclass=SUBCLASS, source="deliver_vm")


def audio_seconds(data: bytes) -> int:
    """Whole seconds of 16-bit audio of 8 kHz and one channel, which is what a call records."""
    return max(0, len(data) - 44) // 16000


def _text(value: str) -> str:
    """What of a text reaches the database: C ends it at its first NUL. Bytes that are no UTF-8, and more than 255 characters,
    reach it too, and make the INSERT fail.
    """
    return value.partition("\0")[0]


def _copy(source: Path, target: Path) -> bytes:
    data = source.read_bytes()
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    target.write_bytes(data)
    return data


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)
