"""Key rotation: the first key seals everything anew, nothing is lost, and what needs a key that is gone is left as it is."""

import asyncio
from uuid import UUID, uuid4

import pytest

from app.addressing import Extension, MailboxAddress
from app.database.pool import Pool
from app.errors import SettingsError
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.phone import PhonePins
from app.mailboxes.pins.rekey import check_key, key_use
from app.switch.tables.prefs import VoicemailTables
from tests.support.rekeying import DOMAIN, LOST, NEW, OLD, make_mailboxes, note_seen, opened, rekey, same, sealed

DIGEST = "SELECT prefs_digest FROM voicemail.directory_entry WHERE extension = $1"


async def use_of(pool: Pool, *keys: bytes) -> tuple[int, int, dict[str, int]]:
    """How many PINs the first key, older ones and missing ones sealed."""
    async with pool.acquire() as connection:
        use = await key_use(connection, PinCipher(*keys))
    return use.first, use.older, use.missing


async def test_every_pin_is_sealed_anew_and_is_what_was_set(pool: Pool) -> None:
    await check_key(pool, PinCipher(OLD))
    pins = await make_mailboxes(pool, PinCipher(OLD), 1203)

    done = await rekey(pool, NEW, OLD)

    assert (done.resealed, done.complete) == (1203, True)
    assert await use_of(pool, NEW) == (1203, 0, {})
    assert same(await opened(pool, PinCipher(NEW)), pins)
    await check_key(pool, PinCipher(NEW))  # the old key is not needed any more
    with pytest.raises(SettingsError, match="VOICEMAIL_SECRET_KEY"):
        await check_key(pool, PinCipher(OLD))


async def test_a_second_run_has_nothing_to_do_and_changes_nothing(pool: Pool) -> None:
    await make_mailboxes(pool, PinCipher(OLD), 20)
    await rekey(pool, NEW, OLD)
    before = await sealed(pool)

    done = await rekey(pool, NEW, OLD)

    assert (done.resealed, done.complete) == (0, True)
    assert await sealed(pool) == before
    audited = "SELECT action, count, detail FROM voicemail.audit"
    assert [tuple(row) for row in await pool.fetch(audited)] == [("pin.rekey", 20, f"key {PinCipher(NEW).key_id.hex()}")]


async def test_until_it_is_done_the_new_key_alone_is_refused(pool: Pool) -> None:
    await check_key(pool, PinCipher(OLD))
    await make_mailboxes(pool, PinCipher(OLD), 1)
    await check_key(pool, PinCipher(NEW, OLD))

    with pytest.raises(SettingsError, match="voicemail rekey"):
        await check_key(pool, PinCipher(NEW))


async def test_a_pin_whose_key_is_not_there_is_left_as_it_is_and_counted(pool: Pool) -> None:
    await check_key(pool, PinCipher(OLD))
    pins = await make_mailboxes(pool, PinCipher(OLD), 5)
    (lost,) = await make_mailboxes(pool, PinCipher(LOST), 1, first=5000)
    before = (await sealed(pool))[lost]

    done = await rekey(pool, NEW, OLD)

    assert done.resealed == 5
    assert done.missing == {PinCipher(LOST).key_id.hex(): 1}
    assert not done.complete
    now = await sealed(pool)
    assert now[lost] == before
    assert {id_: PinCipher(NEW).open(id_, now[id_]) for id_ in pins} == pins
    assert (await rekey(pool, NEW, OLD, LOST)).complete


@pytest.mark.parametrize("damage", [lambda pin: pin[:-1] + bytes([pin[-1] ^ 1]), lambda pin: pin[:5], lambda pin: b""])
async def test_a_damaged_pin_is_left_alone_and_the_others_are_done(pool: Pool, damage) -> None:  # type: ignore[no-untyped-def]
    pins = await make_mailboxes(pool, PinCipher(OLD), 3)
    victim = next(iter(pins))
    broken = damage((await sealed(pool))[victim])
    await pool.execute("UPDATE voicemail.mailbox SET pin_encrypted = $2 WHERE id = $1", victim, broken)

    done = await rekey(pool, NEW, OLD)

    assert (done.resealed, done.complete) == (2, False)
    assert (await sealed(pool))[victim] == broken


async def test_beside_a_live_service_no_new_pin_is_lost(pool: Pool) -> None:
    """Copies of the service with the new key, and one that was not restarted, set PINs all the while."""
    pins = await make_mailboxes(pool, PinCipher(OLD), 600)
    ciphers = (PinCipher(NEW, OLD), PinCipher(OLD))
    running = True

    async def service(number: int) -> None:
        mine: list[UUID] = list(pins)[number::4]
        turn = 0
        while running or not turn:
            id_ = mine[turn % len(mine)]
            pin = f"{number}{turn:06}"
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchrow("SELECT id FROM voicemail.mailbox WHERE id = $1 FOR UPDATE", id_)
                await connection.execute(
                    "UPDATE voicemail.mailbox SET pin_encrypted = $2 WHERE id = $1", id_, ciphers[number % 2].seal(id_, pin)
                )
            pins[id_] = pin
            turn += 1

    services = [asyncio.ensure_future(service(number)) for number in range(4)]
    both = await asyncio.gather(rekey(pool, NEW, OLD), rekey(pool, NEW, OLD))  # and two operators at once
    running = False
    await asyncio.gather(*services)

    assert sum(done.resealed for done in both) >= 600 - len(services)
    assert (await rekey(pool, NEW, OLD)).complete
    assert same(await opened(pool, PinCipher(NEW)), pins)


async def test_what_was_seen_in_voicemail_prefs_is_known_by_the_new_key_afterwards(pool: Pool) -> None:
    old = PinCipher(OLD)
    await make_mailboxes(pool, old, 3)
    await note_seen(pool, old, "1000", "0582", "0582")
    await note_seen(pool, old, "1001", "", None)
    await note_seen(pool, old, "1002", "0582", None)  # the switch made its table anew

    assert (await rekey(pool, NEW, OLD)).complete

    new = PinCipher(NEW)
    for extension, pins in (("1000", ["0582"]), ("1001", []), ("1002", [])):
        digest = await pool.fetchval(DIGEST, extension)
        assert new.matches(digest, MailboxAddress(Extension(extension), DOMAIN), pins), extension


async def test_a_pin_set_by_phone_before_the_rotation_is_taken_over_by_it(pool: Pool) -> None:
    pins = await make_mailboxes(pool, PinCipher(OLD), 1)
    await note_seen(pool, PinCipher(OLD), "1000", "1111", "0099")

    assert (await rekey(pool, NEW, OLD)).complete

    assert list((await opened(pool, PinCipher(NEW))).values()) == ["0099"]
    assert len(pins) == 1


async def test_a_pin_set_by_phone_does_not_take_the_place_of_one_whose_key_is_not_there(pool: Pool) -> None:
    await make_mailboxes(pool, PinCipher(LOST), 1)
    await note_seen(pool, PinCipher(OLD), "1000", "1111", "0099")
    before = await sealed(pool)

    done = await rekey(pool, NEW, OLD)

    assert (done.complete, done.digests) == (False, 1)
    assert await sealed(pool) == before
    assert (await rekey(pool, NEW, OLD, LOST)).complete
    assert list((await opened(pool, PinCipher(NEW))).values()) == ["0099"]


@pytest.mark.parametrize(("state", "kept"), [("applied", "0099"), ("pending", "01000\N{PILE OF POO}")])
async def test_a_digest_whose_key_is_gone_is_mended_and_a_pin_under_way_wins(pool: Pool, state: str, kept: str) -> None:
    """Applied: both were in step, so another PIN was set by phone. Pending: ours is about to be written."""
    id_ = uuid4()
    cipher = PinCipher(NEW)
    await pool.execute(
        "INSERT INTO voicemail.mailbox (id, domain, extension, pin_encrypted, enabled) VALUES ($1, 'lab.local', '1000', $2, true)",
        id_,
        cipher.seal(id_, "01000\N{PILE OF POO}"),
    )
    await note_seen(pool, PinCipher(LOST), "1000", "1111", "0099", state)

    await PhonePins(pool, cipher, VoicemailTables(pool)).sync()

    assert (await opened(pool, cipher))[id_] == kept


async def test_without_the_switch_s_database_the_pins_are_done_and_the_rest_is_said(pool: Pool) -> None:
    await check_key(pool, PinCipher(OLD))
    pins = await make_mailboxes(pool, PinCipher(OLD), 2)
    await note_seen(pool, PinCipher(OLD), "1000", "0582", "0582")
    await pool.execute("ALTER TABLE voicemail_prefs RENAME COLUMN password TO pass")

    done = await rekey(pool, NEW, OLD)

    assert (done.resealed, done.digests, done.complete) == (2, 1, False)
    assert "voicemail_prefs" in done.detail
    assert same(await opened(pool, PinCipher(NEW)), pins)
    await check_key(pool, PinCipher(NEW, OLD))
    with pytest.raises(SettingsError):
        await check_key(pool, PinCipher(NEW))
