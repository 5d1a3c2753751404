"""Too many wrong PINs lock a mailbox, whatever else happens to its PIN meanwhile; one service for all of it, each with its mailbox."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from app.access.command_line import operator
from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import close_pool, open_pool
from app.errors import NotFound
from app.mailboxes.lockout.release import Unlocking
from app.mailboxes.pins.locked import is_lock_pin
from app.service import open_service
from tests.support.databases import another
from tests.support.guessing import Guesser
from tests.support.pbx import DOMAIN, PATIENCE, Site, stand_in

ATTEMPTS = 4
PIN = "4321"
WRONG = ("1111", "2222", "3333")


@pytest.fixture(scope="module")
async def site(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A service with its stand-in, whose profile takes the PIN of voicemail_prefs and that of the directory as well."""
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE test_lockout TEMPLATE {template}")
    folder, dsn = tmp_path_factory.mktemp("lockout"), another(postgres, "test_lockout")
    site = Site(dsn, folder, stand_in(dsn, folder))
    try:
        await site.open(lockout_attempts=ATTEMPTS, lockout_window=3600, lockout_first=3600, lockout_longest=4 * 3600)
        yield site
    finally:
        await site.close()
        await admin.execute("DROP DATABASE test_lockout WITH (FORCE)")
        await admin.close()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Extensions that no test has used."""
    return itertools.count(200)


class Box:
    """One mailbox, seen from everywhere."""

    def __init__(self, site: Site, extension: str, database: asyncpg.Connection) -> None:
        self.site, self.extension, self.database = site, extension, database
        self.path = f"/v1/voicemail/{extension}"
        self.switch: Any = site.switch

    async def call(self, *pins: str) -> list[bool]:
        """One call with these PINs."""
        return await Guesser(self.switch, self.extension).call(*pins)

    async def opens(self, pin: str) -> bool:
        """Whether the mailbox opens by phone."""
        return (await self.call(pin))[0]

    async def lock(self) -> dict[str, Any]:
        """Guess until it is locked everywhere."""
        await self.call(*WRONG)
        await self.call(*WRONG)
        return await self.until_locked()

    async def until_locked(self) -> dict[str, Any]:
        """Wait until the API, the directory and voicemail_prefs have the lock."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.site.get(self.path)
                if found["locked_until"] and is_lock_pin(self.directory) and all(map(is_lock_pin, await self.prefs() or ["-"])):
                    return found
                await asyncio.sleep(0.05)

    async def until_unlocked(self, pin: str) -> None:
        """Wait until this PIN is the one everywhere."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.site.get(self.path)
                everywhere = [found["password"], self.directory, *await self.prefs()]
                if found["locked_until"] is None and set(everywhere) == {pin} and found["directory"]["state"] == "applied":
                    return
                await asyncio.sleep(0.05)

    async def time_passes(self) -> None:
        """The lock's time is over."""
        await self.database.execute(
            "UPDATE voicemail.mailbox_lock l SET locked_until = now() FROM voicemail.mailbox m"
            " WHERE m.id = l.mailbox_id AND m.extension = $1 AND l.locked_until IS NOT NULL", self.extension,
        )  # fmt: skip
        # The guard looks now and not in two seconds.
        self.fire("authentication", {"VM-Auth-Result": "success", "VM-User": "999", "VM-Domain": DOMAIN})

    def fire(self, action: str, headers: dict[str, str] | None = None) -> None:
        """Have the switch send an event of mod_voicemail."""
        self.switch._events.fire("CUSTOM", {"VM-Action": action, **(headers or {})}, subclass="vm::maintenance")

    async def prefs(self) -> list[str]:
        """What voicemail_prefs has."""
        rows = await self.database.fetch("SELECT password FROM voicemail_prefs WHERE username = $1", self.extension)
        return [row["password"] for row in rows]

    @property
    def directory(self) -> str:
        """The PIN that the switch's directory has now."""
        user = self.switch._users.of(DOMAIN).find(self.extension)
        return str(user.params["vm-password"]) if user else ""

    async def counted(self) -> int:
        """How many failed logins count now, once all that were heard are written down."""
        await asyncio.sleep(0.3)
        return int(
            await self.database.fetchval(
                "SELECT count(*) FROM voicemail.failed_login f JOIN voicemail.mailbox m ON m.id = f.mailbox_id"
                " WHERE m.extension = $1 AND f.counted", self.extension,
            )
        )  # fmt: skip


@pytest.fixture
async def box(site: Site, numbers: Iterator[int]) -> AsyncIterator[Box]:
    """A mailbox of the test's own, PIN 4321."""
    extension = str(next(numbers))
    assert (await site.create(extension, password=PIN))["directory"]["state"] == "applied"
    connection = await asyncpg.connect(site.dsn)
    yield Box(site, extension, connection)
    await connection.close()


async def test_wrong_pins_count_over_calls_and_lock_the_mailbox_for_its_own_pin_too(box: Box) -> None:
    assert await box.call(*WRONG) == [False, False, False]
    assert await box.opens(PIN)

    await box.call(*WRONG)
    shown = await box.until_locked()

    assert not await box.opens(PIN)
    assert shown["password"] == PIN
    assert shown["local_after_email"] is True
    assert list(shown)[-1] == "locked_until"


async def test_a_locked_mailbox_takes_messages(box: Box) -> None:
    await box.lock()

    left = await box.switch.leave_message(box.extension)

    assert left.stored
    assert (await box.site.until(f"/v1/voicemail/message/{left.uuid}", id=left.uuid))["extension"] == box.extension


async def test_after_the_lock_the_old_pin_alone_opens_it(box: Box) -> None:
    await box.lock()

    await box.time_passes()
    await box.until_unlocked(PIN)

    assert await box.opens(PIN)
    assert await box.counted() == 0


async def test_each_further_lock_takes_twice_as_long_up_to_the_longest(box: Box) -> None:
    lengths = []
    for _ in range(4):
        await box.lock()
        lengths.append(
            await box.database.fetchval(
                "SELECT round(extract(epoch FROM l.locked_until - now()) / 3600) FROM voicemail.mailbox_lock l"
                " JOIN voicemail.mailbox m ON m.id = l.mailbox_id WHERE m.extension = $1", box.extension,
            )
        )  # fmt: skip
        await box.time_passes()
        await box.until_unlocked(PIN)

    assert [int(length) for length in lengths] == [1, 2, 4, 4]


async def test_a_quiet_time_makes_the_next_lock_short_again(box: Box) -> None:
    await box.lock()
    await box.time_passes()
    await box.until_unlocked(PIN)
    await box.database.execute("UPDATE voicemail.mailbox_lock SET ended_at = now() - interval '4 hours'")

    await box.lock()

    level = "SELECT level FROM voicemail.mailbox_lock l JOIN voicemail.mailbox m ON m.id = l.mailbox_id WHERE m.extension = $1"
    assert await box.database.fetchval(level, box.extension) == 1


async def test_who_mistypes_and_then_knows_the_pin_is_not_counted(box: Box) -> None:
    for _ in range(3):
        assert await box.call("1111", "2222", PIN) == [False, False, True]

    assert await box.counted() == 0


async def test_a_success_in_another_call_or_of_another_mailbox_forgives_nothing(
    box: Box, site: Site, numbers: Iterator[int]
) -> None:
    own = str(next(numbers))
    await site.create(own, password="2580")
    call = box.switch.phone_call()
    for pin in WRONG[:2]:
        assert not await call.log_in(box.extension, pin)
    assert await call.log_in(own, "2580")
    assert await box.opens(PIN)

    assert await box.counted() == 2


async def test_a_pin_set_by_the_api_during_the_lock_holds_after_it(box: Box) -> None:
    await box.lock()

    async with box.site.client.patch(box.path, json={"password": "9753"}) as answer:
        assert answer.status == 200
    await box.until_locked()
    assert not await box.opens("9753")

    await box.time_passes()
    await box.until_unlocked("9753")
    assert await box.opens("9753")
    assert not await box.opens(PIN)


async def test_a_pin_set_by_phone_just_before_the_lock_is_not_lost(box: Box) -> None:
    await box.database.execute(
        "INSERT INTO voicemail_prefs (username, domain, name_path, greeting_path, password) VALUES ($1, $2, '', '', '')",
        box.extension, DOMAIN,
    )  # fmt: skip
    call = box.switch.phone_call()
    assert await call.log_in(box.extension, PIN)
    await call.change_pin("8642")

    await box.lock()
    await box.time_passes()

    await box.until_unlocked("8642")


async def test_a_pin_set_by_phone_in_a_call_that_was_inside_already_is_kept_and_the_lock_as_well(box: Box) -> None:
    call = box.switch.phone_call()
    assert await call.log_in(box.extension, PIN)
    await box.lock()

    await call.change_pin("8642")
    await box.site.until(box.path, password="8642")
    await box.until_locked()

    await box.time_passes()
    await box.until_unlocked("8642")


async def test_the_pin_of_a_lock_is_never_taken_for_one_set_by_phone(box: Box) -> None:
    await box.lock()
    await box.database.execute("UPDATE voicemail.directory_entry SET prefs_digest = '\\x00' WHERE extension = $1", box.extension)

    box.fire("change-password")
    async with asyncio.timeout(PATIENCE):
        while await box.database.fetchval(
            "SELECT prefs_digest = '\\x00' FROM voicemail.directory_entry WHERE extension = $1", box.extension
        ):
            await asyncio.sleep(0.05)

    assert (await box.site.get(box.path))["password"] == PIN
    await box.time_passes()
    await box.until_unlocked(PIN)


async def test_a_lock_that_the_database_does_not_know_any_more_ends(box: Box) -> None:
    """As after a restore of a backup: the switch still has the lock's PIN."""
    await box.lock()
    async with box.database.transaction():
        await box.database.execute(
            "DELETE FROM voicemail.mailbox_lock l USING voicemail.mailbox m WHERE m.id = l.mailbox_id AND m.extension = $1",
            box.extension,
        )
        await box.database.execute(
            "UPDATE voicemail.directory_entry SET prefs_digest = '\\x00' WHERE extension = $1", box.extension
        )

    box.fire("change-password")

    await box.until_unlocked(PIN)


async def test_an_administrator_unlocks_it_by_the_api_and_counting_begins_anew(box: Box) -> None:
    await box.lock()

    for _ in range(2):
        async with box.site.client.delete(f"{box.path}/lock") as answer:
            assert answer.status == 200
            assert (await answer.json())["message"] == "successfully"

    await box.until_unlocked(PIN)
    assert await box.call(*WRONG) == [False] * 3
    assert await box.opens(PIN)


async def test_it_is_unlocked_also_without_the_service(box: Box) -> None:
    pool = await open_pool(box.site.dsn, application_name="test", size=1)
    unlocking, address = Unlocking(pool, operator(Domain(DOMAIN))), MailboxAddress(Extension(box.extension), Domain(DOMAIN))
    await box.lock()

    assert await unlocking.unlock(address)

    await box.until_unlocked(PIN)
    assert not await unlocking.unlock(address)
    with pytest.raises(NotFound, match=r"there is no mailbox 99999@lab\.local"):
        await unlocking.unlock(MailboxAddress(Extension("99999"), Domain(DOMAIN)))
    await close_pool(pool)


async def test_what_was_read_of_a_locked_mailbox_may_be_sent_back(box: Box) -> None:
    read = await box.lock()

    async with box.site.client.put(box.path, json=read) as answer:
        assert answer.status == 200, await answer.text()

    assert (await box.site.get(box.path))["locked_until"] == read["locked_until"]


async def test_nobody_may_set_a_pin_that_looks_like_a_lock(box: Box) -> None:
    await box.lock()

    async with box.site.client.patch(box.path, json={"password": box.directory}) as answer:
        assert answer.status == 422
        assert box.directory not in await answer.text()


async def test_a_deleted_and_made_again_mailbox_has_its_new_pin(box: Box) -> None:
    await box.lock()

    async with box.site.client.delete(box.path) as answer:
        assert answer.status == 200
    await box.site.create(box.extension, password="1928")

    await box.until_unlocked("1928")


async def test_a_lock_without_a_working_directory_is_in_voicemail_prefs_all_the_same(box: Box) -> None:
    box.switch.refuse_reload = "-ERR broken by somebody else\n"
    try:
        await box.call(*WRONG)
        await box.call(*WRONG)
        async with asyncio.timeout(PATIENCE):
            while not all(map(is_lock_pin, await box.prefs() or ["-"])):
                await asyncio.sleep(0.02)
    finally:
        box.switch.refuse_reload = ""
    async with box.site.client.delete(f"{box.path}/lock") as answer:
        assert answer.status == 200
    await box.until_unlocked(PIN)


async def test_two_copies_of_the_service_count_each_wrong_pin_once(box: Box) -> None:
    async with open_service(box.site.settings(lockout_attempts=ATTEMPTS)):
        await asyncio.sleep(0.5)  # until it listens as well
        await box.call(*WRONG)

        assert await box.counted() == 3


async def test_switched_off_it_unlocks_what_is_locked_and_counts_nothing(box: Box) -> None:
    await box.lock()

    async with open_service(box.site.settings(lockout_attempts=0)):
        await box.until_unlocked(PIN)


async def test_unlocking_may_depend_on_the_version(box: Box) -> None:
    await box.lock()

    async with box.site.client.delete(f"{box.path}/lock", headers={"If-Match": '"another"'}) as answer:
        assert answer.status == 412

    assert (await box.site.get(box.path))["locked_until"]


async def test_what_is_heard_while_the_database_refuses_is_counted_later(box: Box) -> None:
    await box.database.execute("ALTER TABLE voicemail.failed_login RENAME TO away")
    await box.call(*WRONG)
    await asyncio.sleep(0.3)
    await box.database.execute("ALTER TABLE voicemail.away RENAME TO failed_login")

    async with asyncio.timeout(PATIENCE):
        while await box.counted() != 3:
            await asyncio.sleep(0.05)
