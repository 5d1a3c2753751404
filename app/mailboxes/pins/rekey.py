"""Key rotation: which keys the database needs, and ``voicemail rekey``, which has the first key seal everything.

There is no record of how far it came: each PIN names its key, so whatever was cut off is found again. A live service may work
beside it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.addressing import MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import SettingsError, Unavailable
from app.mailboxes.pins import store
from app.mailboxes.pins.cipher import PinCipher, PinUnreadable
from app.mailboxes.pins.keys import KEY_SETTING
from app.mailboxes.pins.phone import PhonePins
from app.mailboxes.pins.store import NewDigest, SealedPin
from app.switch.tables.prefs import VoicemailTables

log = structlog.get_logger(__name__)

_AT_ONCE = 500  # PINs in one transaction, which holds their rows for some milliseconds
_PASSES = 10  # a service that was not restarted may go on sealing with an older key
_BEFORE_ALL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How many PINs are sealed by the first key, by older keys that are there, and by keys that are not there (by id)."""

    first: int
    older: int
    missing: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What ``voicemail rekey`` did, and what it had to leave."""

    resealed: int
    older: int  # PINs that an older key still seals: they are damaged, or a service seals with that key
    missing: dict[str, int]  # PINs whose key is not there, by its id
    digests: int  # digests of PINs in voicemail_prefs that are still an older key's
    detail: str = ""  # why digests are left

    @property
    def complete(self) -> bool:
        """Whether the older keys can be taken away."""
        return not (self.older or self.missing or self.digests)


async def check_key(pool: Pool, cipher: PinCipher) -> None:
    """At the start: raise ``SettingsError`` if the key that the database noted is not there; log other keys that are missing."""
    fingerprints = cipher.fingerprints()
    async with pool.acquire() as connection, connection.transaction():
        noted = await store.note_key(connection, fingerprints[0])
        use = await key_use(connection, cipher)
    if noted not in fingerprints:
        raise SettingsError.field(
            KEY_SETTING,
            "is not the key that the PINs in this database were encrypted with;"
            " a new key comes before that one, which stays until voicemail rekey is done",
        )
    for key_id, pins in use.missing.items():
        log.error("secret_key_missing", key=key_id, pins=pins, hint=f"add that key to {KEY_SETTING}, or set these PINs anew")
    if use.older:
        log.info("pins_sealed_by_an_older_key", pins=use.older, hint="voicemail rekey")


async def key_use(connection: Connection, cipher: PinCipher) -> KeyUse:
    """Which keys the PINs in the database need."""
    found = await store.pins_by_key(connection)
    return KeyUse(
        first=found.get(cipher.key_id, 0),
        older=sum(pins for key, pins in found.items() if key in cipher.key_ids and key != cipher.key_id),
        missing={key.hex(): pins for key, pins in sorted(found.items()) if key not in cipher.key_ids},
    )


class Rekeying:
    """Seals all PINs with the first key. It may be killed at any moment and run again; what cannot be opened is left alone."""

    def __init__(self, pool: Pool, cipher: PinCipher, tables: VoicemailTables) -> None:
        self._pool = pool
        self._cipher = cipher
        self._tables = tables
        self._phone = PhonePins(pool, cipher, tables)

    async def run(self, grant: Grant, progress: Callable[[int, int], None]) -> Rekeyed:
        """Do all that is left; ``progress`` is told how many PINs are done, and of how many."""
        await check_key(self._pool, self._cipher)
        resealed = 0
        for _ in range(_PASSES):
            todo = (await self._use()).older
            done = await self._pass(grant, lambda pins, before=resealed, total=resealed + todo: progress(before + pins, total))  # type: ignore[misc]
            resealed += done
            if not done:
                break
        digests, detail = await self._renew_digests()
        use = await self._use()
        result = Rekeyed(resealed, use.older, use.missing, digests, detail)
        if result.complete:
            async with self._pool.acquire() as connection:
                await store.note_key_over(connection, self._cipher.fingerprints()[0])
        log.info("rekeyed", resealed=resealed, older=use.older, missing=sum(use.missing.values()), digests=digests)
        return result

    async def _use(self) -> KeyUse:
        async with self._pool.acquire() as connection:
            return await key_use(connection, self._cipher)

    async def _pass(self, by: Grant, progress: Callable[[int], None]) -> int:
        """Look at every PIN that another key sealed, once; how many were sealed anew."""
        done, last = 0, _BEFORE_ALL
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                found = await store.sealed_by_others(connection, self._cipher.key_id, after=last, limit=_AT_ONCE)
                new = await asyncio.to_thread(self._sealed, found)
                if new:
                    await store.reseal(connection, new)
                    detail = f"key {self._cipher.key_id.hex()}"
                    await audit.insert(connection, [AuditEntry.of(by, Action.PIN_REKEY, detail=detail, count=len(new))])
            if not found:
                return done
            done, last = done + len(new), found[-1].id
            progress(done)

    def _sealed(self, found: Sequence[SealedPin]) -> list[SealedPin]:
        """The PINs that can be opened, sealed with the first key."""
        new = []
        for pin in found:
            try:
                text = self._cipher.open(pin.id, pin.sealed)
            except PinUnreadable:
                continue
            new.append(SealedPin(pin.id, self._cipher.seal(pin.id, text)))
        return new

    async def _renew_digests(self) -> tuple[int, str]:
        """Digests by the first key for what voicemail_prefs held when it was seen last; how many are left, and why."""
        try:
            await self._phone.sync()  # a PIN that was set by phone is taken over, and its digest is new
            async with self._pool.acquire() as connection:
                old = await store.digests_by_others(connection, self._cipher.key_id)
            pins = await self._tables.all_pins(sorted({address.domain for address in old})) if old else {}
        except Unavailable as error:
            async with self._pool.acquire() as connection:
                old = await store.digests_by_others(connection, self._cipher.key_id)
            return len(old), error.detail if old else ""
        new = [digest for address, seen in old.items() if (digest := self._renewed(address, seen, pins))]
        async with self._pool.acquire() as connection, connection.transaction():
            await store.renew_digests(connection, new)
        async with self._pool.acquire() as connection:
            left = await store.digests_by_others(connection, self._cipher.key_id)
        return len(left), "voicemail_prefs holds PINs set by phone that could not be taken over yet" if left else ""

    def _renewed(self, address: MailboxAddress, seen: bytes, pins: dict[tuple[str, str], tuple[str, ...]]) -> NewDigest | None:
        """None: other PINs were set by phone since, or the digest's key is not there."""
        there = pins.get((address.domain, address.extension), ())
        # A row that is gone was no change by phone: mod_voicemail recreates its table.
        if there and not self._cipher.matches(seen, address, there):
            return None
        return NewDigest(address, seen, self._cipher.digest(address, there))
