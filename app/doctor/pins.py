"""Can the PINs be opened: which keys do they need, and are those keys there?"""

from app.config import Settings
from app.database.pool import connect
from app.doctor.report import Finding, failed, ok, warning
from app.errors import DatabaseFailed, MissingTable, SettingsError
from app.mailboxes.pins import store
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.keys import KEY_SETTING, load_keys
from app.mailboxes.pins.rekey import KeyUse, key_use

_NAME = "PINs"
_NONE = "none yet"


async def check_pins(dsn: str, settings: Settings) -> list[Finding]:
    """How many PINs need which key."""
    try:
        keys = load_keys(settings.secret_key, settings.data_dir)
    except SettingsError as error:
        return [failed(item.field, item.message, "the service does not start", "see docs/settings.md") for item in error.errors]
    try:
        connection = await connect(dsn, application_name="doctor")
        try:
            if keys is None:
                there = sum((await store.pins_by_key(connection)).values())
                return [_without_key(there, settings)] if there else [ok(_NAME, _NONE)]
            cipher = PinCipher(*keys)
            return [_finding(await key_use(connection, cipher), len(await store.digests_by_others(connection, cipher.key_id)))]
        finally:
            await connection.close()
    except MissingTable:
        return [ok(_NAME, _NONE)]
    except DatabaseFailed as error:
        return [failed(_NAME, f"cannot be read: {type(error).__name__}", "mailboxes are not read either", "see the checks above")]


def _without_key(pins: int, settings: Settings) -> Finding:
    return failed(
        _NAME,
        f"there are {pins}, and no key: {KEY_SETTING} is unset and there is no key in {settings.data_dir}",
        "the service would make a new key, which opens none of them, and does not start",
        f"set {KEY_SETTING} to the key that they were encrypted with",
    )


def _finding(use: KeyUse, digests: int) -> Finding:
    every = use.first + use.older + sum(use.missing.values())
    if use.missing:
        named = ", ".join(f"{pins} need the key {key_id}" for key_id, pins in use.missing.items())
        return failed(
            _NAME,
            f"of {every}, {named}, which is not in {KEY_SETTING}",
            "these PINs cannot be read; their mailboxes stay on the switch as they are",
            f"add that key to {KEY_SETTING} after the first one, or set these PINs anew",
        )
    if use.older or digests:
        found = f"{use.older} of {every} are still sealed by an older key"
        return warning(
            _NAME,
            found if not digests else f"{found}, and {digests} digests of voicemail_prefs are",
            "the older keys must stay until all are sealed by the first one",
            "voicemail rekey",
        )
    return ok(_NAME, f"{every}, all sealed by the first key" if every else _NONE)
