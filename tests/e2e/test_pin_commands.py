"""PINs and keys from the operator's command line: ``voicemail mailbox pin``, ``voicemail rekey`` and what the doctor says."""

import base64
import os
from pathlib import Path

import asyncpg
import pytest

from app.cli.main import main
from app.doctor.pins import check_pins
from app.doctor.report import Finding, State
from tests.support.pbx import Site, stand_in, voicemail
from tests.support.rekeying import NEW, OLD


def key(*keys: bytes) -> str:
    """A value of VOICEMAIL_SECRET_KEY."""
    return ", ".join(base64.b64encode(one).decode() for one in keys)


@pytest.fixture
def offline(database: str, tmp_path: Path) -> Site:
    """A site that is not started: a database, and settings that name nothing that runs."""
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    site.switch.port = site.mail.port = 9
    return site


async def test_a_pin_is_made_printed_once_and_on_the_switch(stand_in_site: Site) -> None:
    site = stand_in_site
    mailbox = await site.create("101")
    run = {"environment": site.environment(), "folder": site.folder}

    made = [await voicemail("mailbox", "pin", name, "--generate", **run) for name in ("101@lab.local", mailbox["id"])]  # type: ignore[arg-type]

    assert [status for status, _, _ in made] == [0, 0], made
    pins = [output for _, output, _ in made]
    assert all(len(pin) == 7 and pin.strip().isdigit() for pin in pins), "a PIN of six digits and nothing else"
    assert not any(pin.strip() in errors for pin, (_, _, errors) in zip(pins, made, strict=True))
    found = await site.until("/v1/voicemail/101", directory={"state": "applied", "detail": ""})
    assert found["password"] == pins[-1].strip()
    assert pins[-1].strip() in (site.switch.directory / "voicemail-101.xml").read_text()


async def test_a_mailbox_that_is_not_there_gets_no_pin(offline: Site) -> None:
    found = await voicemail("mailbox", "pin", "../..", "--generate", environment=offline.environment(), folder=offline.folder)

    assert found[:2] == (1, "")
    assert "no mailbox" in found[2]
    assert "Traceback" not in found[2]


def test_a_pin_is_not_given_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mailbox", "pin", "101"]) == 2

    assert "--generate" in capsys.readouterr().err


async def test_a_key_is_rotated_and_the_doctor_says_what_is_left_at_each_step(stand_in_site: Site) -> None:
    """The service was started with a key of its own in a file."""
    site = stand_in_site
    await site.create("101", password="582031")
    old = (site.folder / "secret.key").read_text().strip()
    both = f"{key(NEW)} {old}"

    async def doctor(secret_key: str | None) -> Finding:
        (found,) = await check_pins(site.dsn, site.settings(secret_key=secret_key))
        assert old not in str(found)
        return found

    assert (await doctor(None)).state is State.OK
    assert ((await doctor(both)).state, (await doctor(both)).remedy) == (State.WARNING, "voicemail rekey")
    missing = await doctor(key(NEW))
    assert (missing.state, "1 need the key" in missing.found) == (State.FAILED, True)

    status, output, errors = await voicemail("rekey", environment=site.environment(secret_key=both), folder=site.folder)

    assert (status, output.splitlines()[0]) == (0, "1 PINs are encrypted anew with the first key"), errors
    assert "not needed any more" in output
    assert old not in output + errors
    assert (await doctor(key(NEW))).state is State.OK
    (site.folder / "secret.key").chmod(0o640)
    assert "chmod 600" in (await doctor(None)).found


async def test_rekey_names_the_key_that_is_missing_and_leaves_its_pins(offline: Site) -> None:
    run = {"environment": offline.environment(secret_key=key(OLD)), "folder": offline.folder}
    connection = await asyncpg.connect(offline.dsn)
    sealed = b"\x01lost" + os.urandom(40)
    await connection.execute(
        "INSERT INTO voicemail.mailbox (domain, extension, pin_encrypted, enabled) VALUES ('lab.local', '101', $1, true)", sealed
    )

    status, output, _ = await voicemail("rekey", **run)  # type: ignore[arg-type]

    assert status == 1
    assert f"1 PINs need the key {b'lost'.hex()}" in output
    assert await connection.fetchval("SELECT pin_encrypted FROM voicemail.mailbox") == sealed
    await connection.close()
