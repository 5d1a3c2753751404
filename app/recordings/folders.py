"""Where mod_voicemail keeps a mailbox's files, below the recordings folder."""

from app.addressing import MailboxAddress
from app.recordings.storage import RecordingStorage

_SHARED = "voicemail"  # mod_voicemail's storage-dir-shared puts this folder between domain and mailbox


def mailbox_folder(storage: RecordingStorage, address: MailboxAddress) -> str:
    """The key of a mailbox's folder, which need not be there; blocks."""
    plain = f"{address.domain}/{address.extension}"
    shared = f"{address.domain}/{_SHARED}/{address.extension}"
    return shared if _is_folder(storage, shared) and not _is_folder(storage, plain) else plain


def _is_folder(storage: RecordingStorage, key: str) -> bool:
    try:
        with storage.folder(key):
            return True
    except OSError:
        return False
