"""Mailboxes with PINs that a key sealed, and what has to be so after a rotation.

Run as ``python -m tests.support.rekeying DSN KILLS`` it rotates from ``OLD`` to ``NEW`` in one process after another, each killed -9
at a moment of its own, until the last one may finish.
"""

import asyncio
import os
import random
import select
import signal
import sys
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

from app.access.command_line import operator
from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Pool, open_pool
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.rekey import Rekeyed, Rekeying, key_use
from app.switch.tables.prefs import VoicemailTables

OLD, NEW, LOST = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
DOMAIN = Domain("lab.local")
_INSERT = """
INSERT INTO voicemail.mailbox (id, domain, extension, pin_encrypted, enabled)
SELECT id, 'lab.local', extension, sealed, true FROM unnest($1::uuid[], $2::text[], $3::bytea[]) n (id, extension, sealed)
"""
_ENTRY = "INSERT INTO voicemail.directory_entry (domain, extension, state, prefs_digest) VALUES ('lab.local', $1, $2, $3)"
_PREFS = "INSERT INTO voicemail_prefs (username, domain, password) VALUES ($1, 'lab.local', $2)"


async def make_mailboxes(pool: Pool, cipher: PinCipher, count: int, *, first: int = 1000) -> dict[UUID, str]:
    """So many mailboxes, each with a PIN of its own, some with leading zeros or odd characters; the PINs by id."""
    pins = {uuid4(): f"{number:05}" if number % 7 else f"0{number}\N{PILE OF POO}" for number in range(first, first + count)}
    rows = [(id_, str(first + place), cipher.seal(id_, pin)) for place, (id_, pin) in enumerate(pins.items())]
    await pool.execute(_INSERT, *(list(column) for column in zip(*rows, strict=True)))
    return pins


async def note_seen(pool: Pool, cipher: PinCipher, extension: str, seen: str, now: str | None, state: str = "applied") -> None:
    """Have voicemail_prefs hold a PIN (None: no row), after another one was seen there."""
    address = MailboxAddress(Extension(extension), DOMAIN)
    await pool.execute(_ENTRY, extension, state, cipher.digest(address, [seen] if seen else []))
    if now is not None:
        await pool.execute(_PREFS, extension, now)


async def sealed(pool: Pool) -> dict[UUID, bytes]:
    """Every PIN as it is kept, by the mailbox's id."""
    rows = await pool.fetch("SELECT id, pin_encrypted FROM voicemail.mailbox")
    return {UUID(int=row["id"].int): row["pin_encrypted"] for row in rows}


async def opened(pool: Pool, cipher: PinCipher) -> dict[UUID, str]:
    """Every PIN in clear, by the mailbox's id."""
    return {id_: cipher.open(id_, pin) for id_, pin in (await sealed(pool)).items()}


async def rekey(pool: Pool, *keys: bytes) -> Rekeyed:
    """``voicemail rekey`` with these keys."""
    return await Rekeying(pool, PinCipher(*keys), VoicemailTables(pool)).run(operator(DOMAIN), lambda _done, _total: None)


def same(found: Mapping[UUID, str], set_: Mapping[UUID, str]) -> bool:
    """Whether every PIN is the one that was set; a failed assertion would print them all."""
    return dict(found) == dict(set_)


async def _live(dsn: str, begun: int) -> None:
    """Rotate; ``begun`` is written to after each batch."""
    pool = await open_pool(dsn, size=2, application_name="test")
    rekeying = Rekeying(pool, PinCipher(NEW, OLD), VoicemailTables(pool))
    await rekeying.run(operator(DOMAIN), lambda _done, _total: bool(os.write(begun, b".")))


async def _look(dsn: str) -> tuple[int, int]:
    """How many PINs the new key and the old one sealed. Raises if one of all does not open."""
    pool = await open_pool(dsn, size=1, application_name="test")
    cipher = PinCipher(NEW, OLD)
    await opened(pool, cipher)
    async with pool.acquire() as connection:
        use = await key_use(connection, cipher)
    await pool.close()
    return use.first, use.older


def main(dsn: str, kills: int) -> None:
    """Kill one rotation after the other, and let the last one end by itself. Prints how many were cut off in the middle."""
    chance, cut_off = random.Random(10), 0
    for life in range(kills + 1):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(_live(dsn, writing))
            os._exit(0)
        os.close(writing)
        if life < kills:
            select.select([reading], [], [], 10)
            time.sleep(chance.uniform(0.0, 0.02))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        os.close(reading)
        new, old = asyncio.run(_look(dsn))
        cut_off += bool(new and old)
    print(cut_off, old, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
