"""PINs at rest: encrypted in our table, and recognised by a keyed digest. Both name the key that made them."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.addressing import MailboxAddress
from app.errors import VoicemailError
from app.mailboxes.pins.locked import lock_pin_of

_FORMAT = b"\x01"
_NONCE = 12
_TAG = 16
KEY_ID = 4  # bytes
# Where the key's id begins, counted from 1 as SQL does: in a sealed PIN, and in a digest.
SEALED_AT, DIGEST_AT = 2, 1


class PinUnreadable(VoicemailError):
    """A PIN was encrypted with another VOICEMAIL_SECRET_KEY than this service has: give it the old key, or set the PIN anew."""


class PinKeyMissing(PinUnreadable):
    """A PIN was encrypted with a key that is not in VOICEMAIL_SECRET_KEY."""

    def __init__(self, key_id: bytes) -> None:
        self.key_id = key_id.hex()
        super().__init__(
            f"the PIN was encrypted with another VOICEMAIL_SECRET_KEY, the key {self.key_id}, which is not there:"
            " add that key after the first one, or set the PIN anew"
        )


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    """One key with a subkey for each purpose. ``id`` tells keys apart and says nothing of the key itself."""

    id: bytes
    aead: AESGCM
    digests: bytes

    @classmethod
    def of(cls, key: bytes) -> "_Key":
        return cls(_subkey(key, b"id")[:KEY_ID], AESGCM(_subkey(key, b"pins")), _subkey(key, b"digests"))


class PinCipher:
    """Seals PINs with the first key (AES-256-GCM) and opens those of every key. A sealed PIN opens only for its own mailbox."""

    def __init__(self, *keys: bytes) -> None:
        """``keys``: 32 bytes each, at least one; the first one seals."""
        made = [_Key.of(key) for key in keys]
        self._first = made[0]
        self._keys = {key.id: key for key in reversed(made)}

    @property
    def key_id(self) -> bytes:
        """The id of the key that seals."""
        return self._first.id

    @property
    def key_ids(self) -> frozenset[bytes]:
        """The ids of all keys that are there."""
        return frozenset(self._keys)

    def seal(self, mailbox_id: UUID, pin: str) -> bytes:
        """The PIN as it is kept."""
        nonce = secrets.token_bytes(_NONCE)
        return _FORMAT + self._first.id + nonce + self._first.aead.encrypt(nonce, pin.encode(), mailbox_id.bytes)

    def open(self, mailbox_id: UUID, sealed: bytes) -> str:
        """The PIN again.

        Raises ``PinKeyMissing`` if its key is not there, and ``PinUnreadable`` if it is damaged or another mailbox's.
        """
        start = len(_FORMAT) + KEY_ID
        if not sealed.startswith(_FORMAT) or len(sealed) < start + _NONCE + _TAG:
            raise PinUnreadable
        key = self._keys.get(sealed[len(_FORMAT) : start])
        if key is None:
            raise PinKeyMissing(sealed[len(_FORMAT) : start])
        try:
            return key.aead.decrypt(sealed[start : start + _NONCE], sealed[start + _NONCE :], mailbox_id.bytes).decode()
        except InvalidTag:
            raise PinUnreadable from None

    def digest(self, address: MailboxAddress, pins: Iterable[str]) -> bytes:
        """A digest of a set of PINs of one mailbox, by the first key. It tells nothing to anybody who lacks the key."""
        return _digest(self._first, address, pins)

    def knows(self, digest: bytes) -> bool:
        """Whether the key of a digest is there. Without it nobody can say which PINs the digest is of."""
        return digest[:KEY_ID] in self._keys

    def matches(self, digest: bytes, address: MailboxAddress, pins: Iterable[str]) -> bool:
        """Whether a digest, by whichever key, is of these PINs."""
        key = self._keys.get(digest[:KEY_ID])
        return key is not None and hmac.compare_digest(digest, _digest(key, address, pins))

    def fingerprints(self) -> tuple[str, ...]:
        """A fingerprint of each key, the first key's first: the database notes it."""
        keys = [self._first, *(key for key in self._keys.values() if key is not self._first)]
        return tuple(hmac.digest(key.digests, b"fingerprint", hashlib.sha256).hex() for key in keys)

    def lock_pin(self, address: MailboxAddress, number: int) -> str:
        """What the switch has for PIN while a mailbox has the lock of this number: without the key nobody can guess it."""
        text = f"lock\0{address}\0{number}"
        return lock_pin_of(hmac.digest(self._first.digests, text.encode(), hashlib.sha256))

    def __repr__(self) -> str:
        return "PinCipher()"


def _digest(key: _Key, address: MailboxAddress, pins: Iterable[str]) -> bytes:
    text = "\0".join([str(address), *sorted(pins)])
    return key.id + hmac.digest(key.digests, text.encode("utf-8", "surrogateescape"), hashlib.sha256)


def _subkey(key: bytes, purpose: bytes) -> bytes:
    """A key of its own for each purpose."""
    return hmac.digest(key, b"freeswitch-voicemail " + purpose, hashlib.sha256)
