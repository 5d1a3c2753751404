"""Encrypts PINs for our table, compares them by a keyed digest, and loads the key for both."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from app.addressing import MailboxAddress
from app.errors import SettingsError, VoicemailError
from app.mailboxes.pins.locked import lock_pin_of

log = structlog.get_logger(__name__)

KEY_SETTING = "VOICEMAIL_SECRET_KEY"
KEY_FILE = "secret.key"
_FORMAT = b"\x01"
_NONCE = 12


class PinUnreadable(VoicemailError):
    """A PIN was encrypted with another VOICEMAIL_SECRET_KEY than this service has: give it the old key, or set the PIN anew."""


class PinCipher:
    """Seals and opens PINs with AES-256-GCM. A sealed PIN opens only for the mailbox it was sealed for."""

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes."""
        self._aead = AESGCM(_subkey(key, b"pins"))
        self._digest_key = _subkey(key, b"digests")

    def seal(self, mailbox_id: UUID, pin: str) -> bytes:
        """The PIN as it is kept."""
        nonce = secrets.token_bytes(_NONCE)
        return _FORMAT + nonce + self._aead.encrypt(nonce, pin.encode(), mailbox_id.bytes)

    def open(self, mailbox_id: UUID, sealed: bytes) -> str:
        """The PIN again. Raises ``PinUnreadable`` if it was sealed with another key or for another mailbox."""
        if not sealed.startswith(_FORMAT) or len(sealed) < 1 + _NONCE + 16:
            raise PinUnreadable
        try:
            return self._aead.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], mailbox_id.bytes).decode()
        except InvalidTag:
            raise PinUnreadable from None

    def digest(self, address: MailboxAddress, pins: Iterable[str]) -> bytes:
        """A keyed digest of a set of PINs of one mailbox: without the key it reveals nothing."""
        text = "\0".join([str(address), *sorted(pins)])
        return hmac.digest(self._digest_key, text.encode("utf-8", "surrogateescape"), hashlib.sha256)

    def lock_pin(self, address: MailboxAddress, number: int) -> str:
        """What the switch has for PIN while a mailbox has the lock of this number: without the key nobody can guess it."""
        text = f"lock\0{address}\0{number}"
        return lock_pin_of(hmac.digest(self._digest_key, text.encode(), hashlib.sha256))

    def fingerprint(self) -> str:
        """A digest of the key itself."""
        return hmac.digest(self._digest_key, b"fingerprint", hashlib.sha256).hex()

    def __repr__(self) -> str:
        return "PinCipher()"


def load_or_create_key(setting: SecretStr | None, data_dir: Path) -> bytes:
    """The key of VOICEMAIL_SECRET_KEY; if that is unset, the key of a file in the data folder that is made once.

    Raises ``SettingsError`` if the setting or the file is not 32 bytes in base64, or the file cannot be read or made.
    """
    if setting is not None:
        return _decoded(setting.get_secret_value(), "must be 32 bytes in base64")
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _create(path)
        return _decoded(path.read_text("ascii", "replace").strip(), f"is unset, and {path} is not 32 bytes in base64")
    except OSError as error:
        raise SettingsError.field(KEY_SETTING, f"is unset, and {path} cannot be used: {error.strerror}") from error


def _create(path: Path) -> None:
    """Create a key file atomically. If several processes try, one succeeds and the others use its file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(32)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
    log.info("secret_key_created", file=str(path), hint="back this file up: mailbox passwords cannot be read without it")


def _decoded(text: str, message: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError.field(KEY_SETTING, message) from None
    if len(key) != 32:
        raise SettingsError.field(KEY_SETTING, message)
    return key


def _subkey(key: bytes, purpose: bytes) -> bytes:
    """A key of its own for each purpose."""
    return hmac.digest(key, b"freeswitch-voicemail " + purpose, hashlib.sha256)
