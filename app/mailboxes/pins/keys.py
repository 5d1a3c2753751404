"""The keys that PINs are encrypted with: from the setting, or from a file in the data folder that is made once."""

import base64
import os
import secrets
import stat
from pathlib import Path

import structlog
from pydantic import SecretStr

from app.config import KEYS_FORM, decoded_keys
from app.errors import FieldError, SettingsError

log = structlog.get_logger(__name__)

KEY_SETTING = "VOICEMAIL_SECRET_KEY"
KEY_FILE = "secret.key"
_LARGEST = 64 * 1024  # bytes


def load_or_create_keys(setting: SecretStr | None, data_dir: Path) -> tuple[bytes, ...]:
    """The keys of VOICEMAIL_SECRET_KEY, the one that seals first; if that is unset, those of a file that is made once.

    Raises ``SettingsError`` if a key is not 32 bytes in base64, or if the file cannot be used or others may read it.
    """
    keys = load_keys(setting, data_dir)
    if keys is None:
        path = data_dir / KEY_FILE
        try:
            _create(path)
        except OSError as error:
            raise _unusable(path, error) from error
        keys = load_keys(setting, data_dir)
    if keys is None:
        raise SettingsError.field(KEY_SETTING, f"is unset, and {data_dir / KEY_FILE} was removed while it was made")
    return keys


def load_keys(setting: SecretStr | None, data_dir: Path) -> tuple[bytes, ...] | None:
    """As ``load_or_create_keys``, but None if there is neither the setting nor the file."""
    if setting is not None:
        keys = decoded_keys(setting.get_secret_value())
        if keys is None:
            raise SettingsError.field(KEY_SETTING, KEYS_FORM)
        return keys
    path = data_dir / KEY_FILE
    try:
        content = _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    keys = decoded_keys(content.decode("ascii", "replace"))
    if keys is None:
        raise SettingsError.field(KEY_SETTING, f"is unset, and {path} is not 32 bytes in base64, or several such lines")
    return keys


def _read(path: Path) -> bytes:
    """The content of the key file; what was checked is what is read. Raises ``SettingsError`` if others may read it."""
    # Without O_NONBLOCK a pipe of that name would hold the start.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise SettingsError.field(KEY_SETTING, f"is unset, and {path} is not a file")
        if facts.st_uid not in (os.geteuid(), 0):
            raise SettingsError.field(KEY_SETTING, f"is unset, and {path} belongs to another user: give it to this one")
        if facts.st_mode & 0o077:
            raise SettingsError.field(KEY_SETTING, f"is unset, and others may read or write {path}: chmod 600 {path}")
        return file.read(_LARGEST)


def _unusable(path: Path, error: OSError) -> SettingsError:
    return SettingsError([FieldError(KEY_SETTING, f"is unset, and {path} cannot be used: {error.strerror}")])


def _create(path: Path) -> None:
    """Make a key file whole or not at all; of several processes that try, one wins and the others use its file."""
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
