"""The greetings in a mailbox's folder on disk. All of it blocks: for a thread."""

from app.addressing import MailboxAddress
from app.errors import NotFound
from app.greetings.model import SLOTS, Greeting, Slot
from app.recordings.folders import mailbox_folder
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.recordings.wav import wav_facts
from app.switch.tables.greetings import Played


def key_of(storage: RecordingStorage, address: MailboxAddress, slot: Slot) -> str:
    """The key of a slot's file."""
    return f"{mailbox_folder(storage, address)}/{slot.file_name}"


def is_played(paths: RecordingPaths, played: Played, slot: Slot, key: str) -> bool:
    """Whether the switch plays this file; it may write the same path in more than one way."""
    path = played.path(slot.preference)
    return bool(path) and paths.relative(path) == key


def filled(storage: RecordingStorage, address: MailboxAddress, played: Played) -> list[Greeting]:
    """The slots that hold a file."""
    folder = mailbox_folder(storage, address)
    found = []
    for slot in SLOTS:
        key = f"{folder}/{slot.file_name}"
        try:
            with storage.open(key) as audio, open(audio.descriptor, "rb", closefd=False) as file:
                facts = wav_facts(file, audio.opened.size)
                seconds, modified = facts.duration if facts else None, audio.opened.mtime_ns // 10**9
                active = is_played(storage.paths, played, slot, key)
                found.append(Greeting(slot.name, active, audio.opened.size, seconds, modified))
        except (NotFound, OSError):
            continue
    return found
