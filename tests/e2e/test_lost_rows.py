"""A call whose row the switch fails to insert becomes a message and a mail all the same; and so does a row of any date."""

import asyncio
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from app.messages import part
from app.messages.hearing import Hearing
from tests.e2e.test_call import audio_of
from tests.support.pbx import CHECKOUT, DOMAIN, PATIENCE, Site, voicemail

# FACTS 23: mod_voicemail's INSERT fails for these, and it does not look.
LOSING = {"over 255 characters": "n" * 300, "not UTF-8": "caf\udce9 \udcff"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is missed after three seconds; the minute it has otherwise is for slow databases."""
    monkeypatch.setattr(part, "Hearing", partial(Hearing, patience=3.0))


@pytest.fixture
def site(twin_site: Site) -> Site:
    """Every call here is one in the first of two domains that have the same extensions."""
    return twin_site


async def until_recording(site: Site) -> Path:
    """The recording that a call left."""
    async with asyncio.timeout(PATIENCE):
        while not (found := list(site.switch.recordings.rglob("msg_*.wav"))):
            await asyncio.sleep(0.05)
    return found[0]


@pytest.mark.parametrize("name", LOSING.values(), ids=LOSING.keys())
async def test_a_call_whose_row_is_lost_is_listed_and_mailed(site: Site, name: str) -> None:
    await site.create("101", mail_to="tech@example.com")

    with suppress(LookupError):  # the real one tells by its row alone that a message was left
        left = await site.switch.leave_message("101", caller_name=name)
        assert not left.stored

    await site.mail.wait_for(1, timeout=30)
    (caught,) = site.mail.messages
    assert caught.recipients == ("tech@example.com",)
    assert audio_of(caught.parsed) == (await until_recording(site)).read_bytes()
    page = await site.get("/v1/voicemail/message?extension=101")
    (message,) = page["data"]
    assert message["caller_id_name"] == (name[:255] if name.isascii() else "caf\ufffd \ufffd")
    assert message["duration"] >= 1


async def test_a_row_dated_hours_back_is_mailed_at_once(site: Site) -> None:
    await site.create("101")
    folder = site.switch.recordings / DOMAIN / "101"
    folder.mkdir(parents=True, exist_ok=True)
    await asyncio.sleep(1)  # the new folder is watched
    path = folder / "msg_dated-back.wav"
    path.write_bytes((CHECKOUT / "app/sandbox/recordings").glob("*.wav").__next__().read_bytes())
    connection = await asyncpg.connect(site.dsn)
    await connection.execute(
        "INSERT INTO voicemail_msgs VALUES ($1, 0, '101', $2, 'uuid', 'Alice', '1', 'inbox', $3, 10, '', 'B_NORMAL', '')",
        int(time.time()) - 5 * 3600, DOMAIN, str(path),
    )  # fmt: skip
    await connection.close()

    await site.mail.wait_for(1, timeout=PATIENCE)


async def test_orphans_are_listed_by_the_doctor_and_delivered_by_command(stand_in_site: Site) -> None:
    site = stand_in_site
    await site.create("101")
    left = await site.switch.leave_message("101")
    await site.mail.wait_for(1, timeout=PATIENCE)
    orphan = left.path.with_name("msg_lost.wav")
    orphan.write_bytes(left.path.read_bytes())
    os.utime(orphan, (time.time() - 3600,) * 2)
    run = partial(voicemail, environment=site.environment(), folder=site.folder)

    _, report, _ = await run("doctor")
    listed, other, delivered, again = [
        await run("recording", "orphans", *arguments)
        for arguments in ((), ("--deliver", "102"), ("--deliver", "101", "--yes"), ("--deliver", "101", "--yes"))
    ]

    assert "recordings without a row: 1 older than ten minutes, such as lab.local/101/msg_lost.wav" in report
    assert (listed[0], "101@lab.local" in listed[1], "msg_lost.wav" in listed[1]) == (0, True, True), listed
    assert (other[0], other[1].splitlines()[-1]) == (0, "0 recordings without a row")
    assert (delivered[0], delivered[1].splitlines()[-1]) == (0, "1 of 1 delivered to 101@lab.local"), delivered
    assert again[1].splitlines()[-1] == "0 recordings without a row"
    await site.mail.wait_for(2, timeout=30)
    assert (await site.get("/v1/voicemail/message?extension=101"))["total"] == 2


@pytest.mark.parametrize("mailbox", ["", "a b", "../102", "101@", "101@a b", "101\n102", "🎉"])
async def test_a_wrong_mailbox_is_refused(stand_in_site: Site, mailbox: str) -> None:
    site = stand_in_site

    status, output, errors = await voicemail(
        "recording", "orphans", "--deliver", mailbox, "--yes", environment=site.environment(), folder=site.folder
    )

    assert (status, output) == ((0, "0 recordings without a row\n") if mailbox == "101@" else (1, ""))
    assert "Traceback" not in errors
