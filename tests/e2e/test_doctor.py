"""The doctor finds what is wrong, says what it means and what to do; and says that all is well only when it is."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.doctor import database as doctor_of_database
from app.doctor.database import check_switch_tables
from app.doctor.report import Finding
from app.doctor.run import _public_url
from app.sandbox.tables import TABLES
from app.switch.tables.indexes import INDEXES
from tests.support.databases import another
from tests.support.pbx import CHECKOUT, DOMAIN, Site, stand_in, voicemail

CHECKS = [
    "settings", "database", "schema", "voicemail_msgs", "voicemail_prefs", "event socket", "mod_voicemail", "mod_pgsql",
    "profile", "recordings folder", "recordings path", "directory folder", "directory probe", "mailboxes", "mail server",
]  # fmt: skip


async def examined(site: Site, *arguments: str, **settings: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """The doctor's exit status, and its findings by check."""
    environment = site.environment(**settings)
    status, output, errors = await voicemail("doctor", "--json", *arguments, environment=environment, folder=site.folder)
    report = json.loads(output)
    assert report["ok"] is (status == 0), errors
    for secret in (site.switch.password, site.dsn.split(":")[2].split("@")[0], "4321"):
        assert len(secret) < 5 or secret == "ClueCon" or secret not in output + errors
    return status, {finding["check"]: finding for finding in report["checks"]}


async def test_all_is_well(site: Site) -> None:
    await site.create("101")
    await site.switch.leave_message("101")

    status, found = await examined(site, "--mail-to", "operator@example.com")

    assert status == 0, found
    assert {finding["state"] for finding in found.values()} <= {"ok", "warning"}
    wanted = {check for check in CHECKS if check != "profile"} | {
        "odbc-dsn",
        "storage-dir",
        "one PIN at a time",
        "test mail",
        "mod_voicemail's own mail",
    }
    assert wanted <= set(found)
    assert found["recordings path"]["state"] == found["odbc-dsn"]["state"] == found["storage-dir"]["state"] == "ok"
    assert any(mail.recipients == ("operator@example.com",) for mail in site.mail.messages)
    assert list(site.switch.directory.glob("*doctor*")) == []
    status, output, _ = await voicemail("doctor", environment=site.environment(), folder=site.folder)
    assert (status, output.splitlines()[-1]) == (0, "all is well")


async def test_every_wrong_setting_is_named(stand_in_site: Site) -> None:
    status, found = await examined(stand_in_site, smtp_port="many", domain=None, secret_key="s3cr3t-key-that-is-wrong")

    assert status == 1
    assert {"VOICEMAIL_SMTP_PORT", "VOICEMAIL_DOMAIN", "VOICEMAIL_SECRET_KEY"} == set(found) - {"service user"}
    assert "s3cr3t" not in json.dumps(found)


async def test_what_cannot_be_reached_is_said_and_the_rest_is_checked_all_the_same(stand_in_site: Site, unused_port: int) -> None:
    site = stand_in_site
    await site.mail.stop()

    status, found = await examined(site, esl_port=unused_port, database_url=f"postgresql://u:s3cr3t@127.0.0.1:{unused_port}/x")

    assert status == 1
    for check in ("database", "voicemail_msgs", "event socket", "mail server"):
        assert found[check]["state"] == "failed", check
        assert found[check]["meaning"]
        assert found[check]["remedy"]
    assert found["recordings folder"]["state"] == "ok"
    assert found["directory folder"]["state"] in ("ok", "warning")
    assert "s3cr3t" not in json.dumps(found)


async def test_a_wrong_socket_password_is_said_as_such(site: Site) -> None:
    status, found = await examined(site, esl_password="wrong")

    assert (status, found["event socket"]["state"]) == (1, "failed")
    assert "password" in found["event socket"]["found"]


async def test_a_profile_of_another_name(site: Site) -> None:
    status, found = await examined(site, profile="other")

    assert (status, found["profile other"]["state"]) == (1, "failed")
    assert "default" in found["profile other"]["found"]


async def test_recordings_that_are_looked_for_in_the_wrong_place(site: Site, tmp_path: Path) -> None:
    await site.create("101", mail_to="")
    await site.switch.leave_message("101")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    status, found = await examined(site, recordings_path=elsewhere, recordings_switch_path=str(site.switch.recordings))
    assert (status, found["recordings path"]["state"], found["storage-dir"]["state"]) == (1, "failed", "ok")

    status, found = await examined(site, recordings_switch_path="/elsewhere")
    assert (status, found["recordings path"]["state"], found["storage-dir"]["state"]) == (1, "failed", "failed")
    assert f"VOICEMAIL_RECORDINGS_SWITCH_PATH={site.switch.recordings}" in found["storage-dir"]["remedy"]


async def test_a_database_that_the_switch_does_not_use(site: Site, postgres: str) -> None:
    admin = await asyncpg.connect(postgres)
    await admin.execute("CREATE DATABASE not_the_switch_s")
    await admin.close()
    other = f"{postgres.rpartition('/')[0]}/not_the_switch_s"
    try:
        status, found = await examined(site, switch_database_url=other)
    finally:
        admin = await asyncpg.connect(postgres)
        await admin.execute("DROP DATABASE not_the_switch_s WITH (FORCE)")
        await admin.close()

    assert status == 1
    assert found["voicemail_msgs"]["state"] == found["odbc-dsn"]["state"] == "failed"


async def test_a_directory_that_the_switch_does_not_include(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o750)

    status, found = await examined(site, directory_path=elsewhere)

    assert (status, found["directory probe"]["state"]) == (1, "failed")
    assert "X-PRE-PROCESS" in found["directory probe"]["remedy"]
    assert list(elsewhere.iterdir()) == []


async def test_files_of_another_installation_are_told_with_the_ways_out(stand_in_site: Site) -> None:
    site = stand_in_site
    await site.create("101")
    path = site.switch.directory / "voicemail-102.xml"
    path.write_text("<include>\n</include>\n")

    status, found = await examined(site)

    assert (status, found["directory files"]["state"]) == (1, "failed")
    assert "voicemail-102.xml has no mark of this installation" in found["directory files"]["found"]
    assert "voicemail mailbox adopt" in found["directory files"]["remedy"]
    path.unlink()
    status, found = await examined(site)
    assert (status, found["directory files"]["state"]) == (0, "ok")


async def test_files_beside_a_database_without_a_schema_are_told(stand_in_site: Site, postgres: str) -> None:
    await stand_in_site.create("101")
    admin = await asyncpg.connect(postgres)
    await admin.execute("CREATE DATABASE never_used")
    try:
        _, found = await examined(
            stand_in_site,
            database_url=f"{postgres.rpartition('/')[0]}/never_used",
            switch_database_url=stand_in_site.dsn,
        )
    finally:
        await admin.execute("DROP DATABASE never_used WITH (FORCE)")
        await admin.close()

    assert found["directory files"]["state"] == "failed"
    assert "belongs to another installation" in found["directory files"]["found"]
    assert list(stand_in_site.switch.directory.glob("*.xml")) == [stand_in_site.switch.directory / "voicemail-101.xml"]


async def test_a_role_without_rights_is_told_the_statement_to_run(stand_in_site: Site) -> None:
    site = stand_in_site
    connection = await asyncpg.connect(site.dsn)

    await connection.execute("REVOKE ALL ON voicemail_msgs, voicemail_prefs FROM CURRENT_USER")
    status, found = await examined(site)
    assert (status, found["voicemail_msgs"]["state"]) == (1, "failed")
    assert 'GRANT SELECT ON voicemail_msgs TO "voicemail"' in found["voicemail_msgs"]["remedy"]

    await connection.execute("GRANT SELECT ON voicemail_msgs, voicemail_prefs TO CURRENT_USER")
    status, found = await examined(site)
    assert (status, found["voicemail_prefs"]["state"]) == (0, "warning")
    assert "UPDATE" in found["voicemail_prefs"]["remedy"]
    await connection.close()


async def test_a_test_mail_that_is_refused(stand_in_site: Site) -> None:
    stand_in_site.mail.refuse("operator@example.com")

    status, found = await examined(stand_in_site, "--mail-to", "operator@example.com")
    assert (status, found["test mail"]["state"]) == (1, "failed")
    assert "550" in found["test mail"]["found"]

    status, found = await examined(stand_in_site, "--mail-to", "no address\r\nRCPT TO:<x@y>")
    assert (status, found["test mail"]["state"]) == (1, "failed")


async def test_a_mailbox_that_failed_is_told(stand_in_site: Site) -> None:
    site = stand_in_site
    site.switch.refuse_reload = "-ERR [mismatched tag]\n"  # type: ignore[attr-defined]
    await site.create("101")
    site.switch.refuse_reload = ""  # type: ignore[attr-defined]
    connection = await asyncpg.connect(site.dsn)
    await connection.execute(
        "UPDATE voicemail.directory_entry SET state = 'failed', detail = 'somebody else defines 101' WHERE domain = $1", DOMAIN
    )
    status, found = await examined(site)
    await connection.close()

    if found["mailboxes"]["state"] == "failed":  # unless the service has mended it meanwhile
        assert status == 1
        assert "somebody else defines 101" in found["mailboxes"]["meaning"]


@pytest.mark.parametrize("line", ["--mail-to", "--nonsense"])
async def test_a_wrong_call_is_told_by_the_command_itself(stand_in_site: Site, line: str) -> None:
    status, _, errors = await voicemail("doctor", line, environment=stand_in_site.environment(), folder=stand_in_site.folder)

    assert status == 2
    assert "voicemail" in errors
    assert line in errors


@pytest.fixture
async def before_the_first_start(postgres: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A good set-up on which the service never ran: the switch with its tables, and no schema of the service."""
    admin = await asyncpg.connect(postgres)
    await admin.execute("CREATE DATABASE before_the_first_start")
    dsn = another(postgres, "before_the_first_start")
    site = Site(dsn, tmp_path, stand_in(dsn, tmp_path))
    try:
        connection = await asyncpg.connect(dsn)
        await connection.execute(TABLES.read_text())
        await connection.close()
        await site.switch.start()
        await site.mail.start()
        yield site
    finally:
        await site.switch.stop()
        await site.mail.stop()
        await admin.execute("DROP DATABASE before_the_first_start WITH (FORCE)")
        await admin.close()


async def test_a_good_set_up_passes_before_the_first_start(before_the_first_start: Site) -> None:
    site = before_the_first_start

    status, found = await examined(site)
    assert status == 0, found
    assert found["mailboxes"]["state"] == "skipped"
    assert found["schema"]["state"] == "ok"

    status, output, _ = await voicemail("doctor", environment=site.environment(), folder=site.folder)
    assert status == 0
    counts = re.fullmatch(r"(\d+) passed, (\d+) warned, 1 skipped, 0 failed", output.splitlines()[-2])
    assert counts, output
    assert int(counts[1]) + int(counts[2]) == len(found) - 1


async def test_skips_are_counted_apart_from_failures(before_the_first_start: Site) -> None:
    site = before_the_first_start
    await site.switch.stop()

    status, output, _ = await voicemail("doctor", "--json", environment=site.environment(), folder=site.folder)
    report = json.loads(output)

    states = [finding["state"] for finding in report["checks"]]
    assert (status, report["ok"]) == (1, False)
    assert report["counts"] == {
        "passed": states.count("ok"), "warned": states.count("warning"),
        "skipped": states.count("skipped"), "failed": 1,
    }  # fmt: skip
    assert report["counts"]["skipped"] >= 2


async def test_without_a_database_of_the_switch_nothing_is_well(before_the_first_start: Site) -> None:
    status, found = await examined(before_the_first_start, database_url=None)
    assert (status, found["VOICEMAIL_DATABASE_URL"]["state"]) == (1, "failed")
    assert "postgresql://" in found["VOICEMAIL_DATABASE_URL"]["found"]

    status, found = await examined(before_the_first_start, database_url="embedded")
    assert (status, found["voicemail_msgs"]["state"]) == (1, "failed")
    assert "VOICEMAIL_DATABASE_URL" in found["voicemail_msgs"]["remedy"]


async def test_a_role_that_could_not_make_the_schema_is_told_before_the_first_start(before_the_first_start: Site) -> None:
    site = before_the_first_start
    name = site.dsn.rpartition("/")[2]
    connection = await asyncpg.connect(site.dsn)
    await connection.execute(f"REVOKE CREATE ON DATABASE {name} FROM CURRENT_USER")

    status, found = await examined(site)
    assert (status, found["schema"]["state"]) == (1, "failed")
    assert found["schema"]["remedy"].endswith('CREATE SCHEMA voicemail AUTHORIZATION "voicemail"')

    await connection.execute(f"GRANT CREATE ON DATABASE {name} TO CURRENT_USER")
    await connection.execute("CREATE SCHEMA voicemail")
    await connection.execute(f"REVOKE CREATE ON DATABASE {name} FROM CURRENT_USER")
    await connection.close()
    status, found = await examined(site)
    assert (status, found["schema"]["state"]) == (0, "ok"), found


async def test_the_newest_recordings_of_every_domain_are_looked_for(stand_in_site: Site) -> None:
    site = stand_in_site
    connection = await asyncpg.connect(site.dsn)
    await connection.execute("INSERT INTO voicemail.domain (name) VALUES ('branch.example')")
    await connection.execute(
        "INSERT INTO voicemail_msgs (created_epoch, username, domain, uuid, file_path) VALUES (1, '7', 'branch.example', 'u', $1)",
        f"{site.switch.recordings}/branch.example/7/msg_gone.wav",
    )
    await connection.close()
    await site.create("101")
    await site.switch.leave_message("101")

    status, found = await examined(site)

    assert status == 1
    assert found["recordings path"]["state"] == "ok"
    assert found["recordings path of branch.example"]["state"] == "failed"
    assert "msg_gone.wav" in found["recordings path of branch.example"]["found"]


async def test_the_lines_that_make_missing_indexes_are_offered_if_the_role_may_not(
    before_the_first_start: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(before_the_first_start.dsn)

    async def found() -> Finding:
        return next(one for one in await check_switch_tables(before_the_first_start.dsn) if one.check.startswith("indexes"))

    assert (await found()).state == "ok"  # the role owns the table, and the service makes them itself
    monkeypatch.setattr(doctor_of_database, "_OWNS", "SELECT false")  # no test's role may give a table away
    warned = await found()
    lines = re.findall(r"CREATE INDEX CONCURRENTLY [^;]+;", warned.remedy)
    assert (warned.state, len(lines)) == ("warning", len(INDEXES))
    for line in lines:  # as they stand
        await connection.execute(line)
    await connection.close()

    assert (await found()).state == "ok"


async def test_a_pbx_with_a_voicemail_of_its_own_is_told(before_the_first_start: Site) -> None:
    site = before_the_first_start
    _, found = await examined(site)
    assert found["voicemail of the PBX"]["state"] == "ok"
    connection = await asyncpg.connect(site.dsn)
    await connection.execute("CREATE TABLE v_voicemails (id int); CREATE TABLE v_voicemail_messages (id int)")
    await connection.close()

    status, found = await examined(site)

    assert (status, found["voicemail of the PBX"]["state"]) == (0, "warning")
    assert "public.v_voicemails" in found["voicemail of the PBX"]["found"]
    assert "FusionPBX" in found["voicemail of the PBX"]["found"]


@pytest.mark.parametrize(
    ("settings", "state"),
    [({}, "ok"), ({"public_url": "https://vm.example.com"}, "ok"), ({"public_url": "http://127.0.0.1:8080"}, "ok"),
     ({"public_url": "http://vm.example.com"}, "warning"), ({"http_host": "0.0.0.0", "public_url": "http://10.0.0.5"}, "warning")],
)  # fmt: skip
def test_a_public_url_without_https_is_told(tmp_path: Path, settings: dict[str, Any], state: str) -> None:
    site = Site("postgresql://u@h/d", tmp_path, stand_in("postgresql://u@h/d", tmp_path))
    site.switch.port = site.mail.port = 9

    [finding] = _public_url(site.settings(**settings))

    assert finding.state == state


async def test_what_is_looked_at_is_named_before_and_told_at_once(before_the_first_start: Site) -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()

    site = before_the_first_start
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    environment = site.environment(smtp_port=silent.sockets[0].getsockname()[1]) | {"PYTHONPATH": str(CHECKOUT)}
    doctor = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "doctor", env=environment, cwd=site.folder, stdout=asyncio.subprocess.PIPE
    )
    lines: list[str] = []
    try:
        assert doctor.stdout
        async with asyncio.timeout(60):
            while not lines or not lines[-1].startswith("checking the mail server"):
                lines.append((await doctor.stdout.readline()).decode())
    finally:
        doctor.kill()
        await doctor.wait()
        silent.close()

    begun = [line.split(" …")[0].split(" 127")[0] for line in lines if line.startswith("checking")]
    assert begun[1:4:2] == ["checking the database", f"checking recordings in {site.switch.recordings}"]
    assert any(line.startswith("OK       event socket:") for line in lines)


async def test_links_inside_the_recordings_folder_are_named(stand_in_site: Site, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (stand_in_site.switch.recordings / "branch.local").symlink_to(tmp_path / "disk")

    _, found = await examined(stand_in_site)

    assert found["links to recordings"]["state"] == "warning"
    assert "1 in " in found["links to recordings"]["found"]
    assert "such as branch.local" in found["links to recordings"]["found"]
    assert "bind mount" in found["links to recordings"]["remedy"]
