"""The ``voicemail`` command, as an operator runs it."""

import asyncio
import base64
import os
import pwd
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from app.cli.main import main
from app.config import Settings
from tests.support.pbx import CHECKOUT, Site, stand_in, voicemail


@pytest.fixture
def offline(database: str, tmp_path: Path) -> Site:
    """A site that is not started: a database, and settings that name nothing that runs."""
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    site.switch.port = site.mail.port = 9
    return site


async def test_a_token_is_made_listed_used_and_revoked(stand_in_site: Site) -> None:
    site, environment = stand_in_site, stand_in_site.environment()
    run = {"environment": environment, "folder": site.folder}

    everything = ("--all-domains", "--all-scopes")
    status, output, _ = await voicemail("token", "create", "phone-book", *everything, **run)  # type: ignore[arg-type]
    token = output.strip()
    assert status == 0
    assert len(token) >= 32
    assert token.startswith("vm_")
    async with site.client.get("/v1/voicemail", headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status == 200

    status, _, errors = await voicemail("token", "create", "phone-book", *everything, **run)  # type: ignore[arg-type]
    assert (status, "phone-book already" in errors) == (1, True)
    for domain in ("b.example", "a.example"):
        assert (await voicemail("domain", "create", domain, **run))[0] == 0  # type: ignore[arg-type]
    branch = ("branch", "--domain", "b.example", "--domain", "a.example", "--scope", "message:read", "--expires", "90d")
    assert (await voicemail("token", "create", *branch, **run))[0] == 0  # type: ignore[arg-type]
    _, output, _ = await voicemail("token", "list", **run)  # type: ignore[arg-type]
    lines = [line.split("\t") for line in output.splitlines()]
    assert [line[:3] for line in lines] == [["branch", "a.example,b.example", "message:read"], ["phone-book", "*", "*"]]
    ends = (datetime.now(UTC) + timedelta(days=90)).strftime("expires %Y-%m-%d ")
    assert lines[0][3].startswith(ends)
    assert lines[0][4] == "never used"
    assert token not in output

    status, output, errors = await voicemail("token", "rotate", "phone-book", "--overlap", "1h", **run)  # type: ignore[arg-type]
    assert (status, "the old token is valid until" in errors) == (0, True)
    for text in (token, output.strip()):
        async with site.client.get("/v1/voicemail", headers={"Authorization": f"Bearer {text}"}) as answer:
            assert answer.status == 200

    assert (await voicemail("token", "revoke", "phone-book", **run))[0] == 0  # type: ignore[arg-type]
    status, _, errors = await voicemail("token", "revoke", "phone-book", **run)  # type: ignore[arg-type]
    assert (status, "no token named phone-book" in errors) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [(["--all-scopes"], 2, "--domain"), (["--all-domains"], 2, "--scope"), (["--all-domains", "--scope", "all"], 2, "mailbox:read"),
     (["--all-domains", "--domain", "lab.local", "--all-scopes"], 2, "--domain"),
     (["--all-domains", "--all-scopes", "--scope", "admin"], 2, "--scope"), (["--domain", "a\nb", "--all-scopes"], 1, "--domain"),
     *((["--all-domains", "--all-scopes", "--expires", time], 2, "--expires") for time in ("soon", "999999999d", "-1d", "1d\n", "1", "d"))],
)  # fmt: skip
def test_a_token_s_domains_scopes_and_time_must_be_said_rightly(
    arguments: list[str], status: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "create", "x", *arguments]) == status

    output, errors = capsys.readouterr()
    assert output == ""
    assert named in errors


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["create", "a b"], "domain"), (["create", "a.example", "--time-zone", "Mars"], "--time-zone"),
     (["change", "lab.local", "--mail-from", "a@b\nBcc: c@d"], "--mail-from"), (["change", "lab.local", "--language", "x_y"], "--language")],
)  # fmt: skip
def test_a_wrong_setting_of_a_domain_is_named(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["domain", *arguments]) == 1

    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["token", "create", "x", "--domain", "nowhere.example", "--all-scopes"], "no domain nowhere.example"),
     (["token", "rotate", "nobody"], "no token named nobody"), (["domain", "delete", "lab.local"], "VOICEMAIL_DOMAIN")],
)  # fmt: skip
async def test_what_cannot_be_done_with_tokens_and_domains_is_said(offline: Site, arguments: list[str], said: str) -> None:
    status, output, errors = await voicemail(*arguments, environment=offline.environment(), folder=offline.folder)

    assert (status, output) == (1, "")
    assert said in errors
    assert "Traceback" not in errors


async def test_a_domain_is_made_listed_shown_changed_and_deleted(offline: Site) -> None:
    async def run(*arguments: str) -> str:
        status, output, errors = await voicemail("domain", *arguments, environment=offline.environment(), folder=offline.folder)
        assert status == 0, errors
        return output

    await run(
        "create", "a.example", "--description", "A branch", "--time-zone", "Asia/Ho_Chi_Minh", "--mail-from", "vm@a.example"
    )
    assert (await run("list")).splitlines() == ["a.example\t-\tA branch", "lab.local\tdefault\t"]
    await run(
        "change", "a.example", "--language", "VI", "--time-zone", "", "--mail-domains", "A.example, mail.a.example,",
        "--trash-days", "9",
    )  # fmt: skip
    shown = dict(line.split("\t") for line in (await run("show", "a.example")).splitlines())
    assert shown == {
        "name": "a.example", "description": "A branch", "time_zone": "", "language": "vi", "mail_from": "vm@a.example",
        "mail_from_name": "", "reply_to": "", "pin_policy": "warn", "pin_min_length": "6",
        "mail_domains": "a.example,mail.a.example", "trash_days": "9",
    }  # fmt: skip
    await run("delete", "a.example")
    assert (await run("list")).splitlines() == ["lab.local\tdefault\t"]


async def test_a_default_domain_that_differs_only_in_capitals_stops_the_start(offline: Site) -> None:
    status, _, errors = await voicemail(
        "domain", "list", environment=offline.environment(domain="LAB.Local"), folder=offline.folder
    )

    assert (status, "VOICEMAIL_DOMAIN" in errors, "lab.local" in errors) == (2, True, True)


async def test_migrate_brings_an_empty_database_up_to_date_and_says_so(offline: Site) -> None:
    connection = await asyncpg.connect(offline.dsn)
    await connection.execute("DROP SCHEMA voicemail CASCADE")
    files = sorted(path.name for path in (CHECKOUT / "sql").glob("*.sql"))

    first = await voicemail("migrate", environment=offline.environment(), folder=offline.folder)
    second = await voicemail("migrate", environment=offline.environment(), folder=offline.folder)

    assert first[:2] == (0, "".join(f"applied {name}\n" for name in files))
    assert second[:2] == (0, "the schema is up to date\n")
    assert await connection.fetchval("SELECT count(*) FROM voicemail.schema_migration") == len(files)
    await connection.close()


async def test_every_wrong_setting_is_told_at_once_by_its_variable_and_without_its_value(offline: Site) -> None:
    secret = "s3cr3t-that-nobody-may-see"
    environment = offline.environment(
        database_url=f"mysql://u:{secret}@h/d", switch_database_url=secret, secret_key=secret, api_token="short",
        esl_port="0", esl_password=secret + "\n", smtp_security="ssl", smtp_password=secret + "\x01", mail_from=secret, time_zone="Mars/Base",
        domain="no domain", http_port="99999", public_url="ftp://x", notify_max_age="1", profile="a b", log_level="loud",
        directory_mode="magic", recordings_switch_path="relative", smtp_host=None, directory_path=None, recordings_path=None,
    ) | {"VOICEMAIL_PASWORD": secret}  # fmt: skip

    status, output, errors = await voicemail("serve", environment=environment, folder=offline.folder)

    assert status == 2
    assert secret not in output + errors
    assert "Traceback" not in errors
    named = {line.split(":")[0].strip() for line in errors.splitlines() if line.startswith("  ")}
    assert named >= {
        f"VOICEMAIL_{name}"
        for name in (
            "DATABASE_URL", "SWITCH_DATABASE_URL", "SECRET_KEY", "API_TOKEN", "ESL_PORT", "ESL_PASSWORD", "SMTP_SECURITY", "SMTP_PASSWORD",
            "MAIL_FROM", "TIME_ZONE", "DOMAIN", "HTTP_PORT", "PUBLIC_URL", "NOTIFY_MAX_AGE", "PROFILE", "LOG_LEVEL", "DIRECTORY_MODE",
            "RECORDINGS_SWITCH_PATH", "SMTP_HOST", "DIRECTORY_PATH", "RECORDINGS_PATH", "PASWORD",
        )
    }  # fmt: skip


async def test_off_loopback_the_start_fails_without_a_public_url(offline: Site) -> None:
    status, output, errors = await voicemail("serve", environment=offline.environment(http_host="0.0.0.0"), folder=offline.folder)

    assert status == 2
    assert "VOICEMAIL_PUBLIC_URL: is required, because VOICEMAIL_HTTP_HOST is not a loopback address" in errors
    assert "Traceback" not in output + errors


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cr3t@h:port/db", "postgresql://u:s3cr3t@[::1/db", "postgresql://u:s3cr3t@h/db?sslmode=bogus",
            "postgresql://u:s3:cr/3t@h/db", "s3cr3t"],
)  # fmt: skip
async def test_a_wrong_database_url_is_told_without_quoting_it(offline: Site, url: str) -> None:
    status, output, errors = await voicemail("serve", environment=offline.environment(database_url=url), folder=offline.folder)

    assert status == 2
    assert "VOICEMAIL_DATABASE_URL:" in errors
    assert "s3" not in output + errors


@pytest.mark.parametrize("url", [None, ""])
async def test_serve_without_a_database_says_which_two_ways_there_are(offline: Site, url: str | None) -> None:
    status, output, errors = await voicemail("serve", environment=offline.environment(database_url=url), folder=offline.folder)

    assert (status, output) == (2, "")
    [line] = [line for line in errors.splitlines() if line.startswith("  ")]
    assert line.startswith("  VOICEMAIL_DATABASE_URL: is required: postgresql://")
    assert "or embedded" in line
    assert not (offline.folder / "postgresql").exists()


async def test_an_embedded_database_is_used_if_it_is_asked_for(offline: Site) -> None:
    environment = offline.environment(database_url="embedded")

    status, output, errors = await voicemail("migrate", environment=environment, folder=offline.folder)

    assert (status, "applied 0001_voicemail.sql" in output) == (0, True), errors
    assert (offline.folder / "postgresql").is_dir()


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgresql:///db", "postgresql://u:p%40@[::1]:5432/db?sslmode=require", "postgres://a:1,b:2/db"]
)
def test_a_right_database_url_is_taken(offline: Site, url: str) -> None:
    assert offline.settings(database_url=url).database_url


async def test_a_data_folder_that_cannot_be_made_is_told(offline: Site) -> None:
    (offline.folder / "file").write_text("")

    environment = offline.environment(data_dir=offline.folder / "file" / "data")
    status, _, errors = await voicemail("serve", environment=environment, folder=offline.folder)

    assert status == 2
    assert "VOICEMAIL_DATA_DIR:" in errors
    assert "Traceback" not in errors


async def test_settings_come_from_a_dot_env_file_too(offline: Site) -> None:
    environment = offline.environment()
    moved = {name: environment.pop(name) for name in list(environment) if name.startswith("VOICEMAIL_")}
    (offline.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in moved.items()))

    status, output, errors = await voicemail("migrate", environment=environment, folder=offline.folder)

    assert (status, output) == (0, "the schema is up to date\n"), errors


async def test_settings_come_from_the_file_that_env_file_names_and_not_from_dot_env(offline: Site) -> None:
    environment = offline.environment()
    moved = {name: environment.pop(name) for name in list(environment) if name.startswith("VOICEMAIL_")}
    (offline.folder / "another.env").write_text("".join(f"{name}={value}\n" for name, value in moved.items()))
    (offline.folder / ".env").write_text("VOICEMAIL_DOMAIN=no domain\n")

    status, output, errors = await voicemail(
        "--env-file", "another.env", "migrate", environment=environment, folder=offline.folder
    )

    assert (status, output) == (0, "the schema is up to date\n"), errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dance"], "No such command 'dance'"),
        (["token", "create"], "Missing argument 'NAME'"),
        (["--env-file", "absent", "migrate"], "absent"),
        ([], "Usage: "),
    ],
)
async def test_a_wrong_call_is_told_in_a_sentence(offline: Site, arguments: list[str], told: str) -> None:
    status, output, errors = await voicemail(*arguments, environment=offline.environment(), folder=offline.folder)

    assert (status, output) == (2, "")
    assert told in errors
    assert "Traceback" not in errors


async def test_the_command_says_its_version(offline: Site) -> None:
    status, output, _ = await voicemail("--version", environment=offline.environment(), folder=offline.folder)

    assert status == 0
    assert output.startswith("voicemail 0.")


async def test_the_key_of_another_database_stops_the_start(stand_in_site: Site) -> None:
    await stand_in_site.create("101")
    key = base64.b64encode(os.urandom(32)).decode()

    status, _, errors = await voicemail(
        "serve", environment=stand_in_site.environment(secret_key=key), folder=stand_in_site.folder
    )

    assert status == 2
    assert "VOICEMAIL_SECRET_KEY" in errors
    assert key not in errors


async def test_a_database_of_a_newer_release_stops_the_start(offline: Site) -> None:
    connection = await asyncpg.connect(offline.dsn)
    columns = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'voicemail' AND table_name = 'schema_migration'"
    )
    assert {"name"} <= {row[0] for row in columns}
    await connection.execute(
        'INSERT INTO voicemail.schema_migration SELECT (jsonb_populate_record(m, \'{"name": "9999_future.sql"}\')).*'
        " FROM voicemail.schema_migration m LIMIT 1"
    )
    await connection.close()

    status, _, errors = await voicemail("serve", environment=offline.environment(), folder=offline.folder)

    assert status == 1
    assert "9999_future" in errors


async def test_serve_waits_for_what_is_away_and_stops_when_asked(offline: Site, unused_port: int) -> None:
    environment = offline.environment(http_port=unused_port) | {"PYTHONPATH": str(CHECKOUT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app",
        "serve",
        env=environment,
        cwd=offline.folder,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with aiohttp.ClientSession() as client, asyncio.timeout(20):
            while True:
                try:
                    async with client.get(f"http://127.0.0.1:{unused_port}/readyz") as answer:
                        checks = (await answer.json())["checks"]
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        assert (checks["database"]["state"], checks["switch"]["state"], checks["mail"]["state"]) == ("ok", "failed", "failed")
        process.send_signal(signal.SIGTERM)
        output, errors = await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 0
        assert b"Traceback" not in output + errors
    finally:
        if process.returncode is None:
            process.kill()


async def test_a_port_that_is_taken_is_told_without_a_traceback(stand_in_site: Site) -> None:
    port = stand_in_site.client._base_url.port

    status, _, errors = await voicemail(
        "serve", environment=stand_in_site.environment(http_port=port), folder=stand_in_site.folder
    )

    assert status == 2
    assert f"port {port} cannot be listened on: address already in use" in errors
    assert "Traceback" not in errors


def test_every_setting_is_in_the_documents() -> None:
    documented = (CHECKOUT / "docs/settings.md").read_text()
    example = (CHECKOUT / ".env.example").read_text()

    for name in Settings.model_fields:
        assert f"`VOICEMAIL_{name.upper()}`" in documented
        assert f"VOICEMAIL_{name.upper()}=" in example


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["token"], ["--help"], ["token", "create"]])
async def test_a_wrong_call_gets_the_usage(offline: Site, arguments: list[str]) -> None:
    status, output, errors = await voicemail(*arguments, environment=offline.environment(), folder=offline.folder)

    assert status == (0 if "--help" in arguments else 2)
    assert "Usage: voicemail" in output + errors


async def test_the_audit_names_who_ran_a_command_and_is_listed(offline: Site) -> None:
    environment = offline.environment() | {"SUDO_USER": "alice\n🎉"}

    async def run(*arguments: str) -> list[list[str]]:
        status, output, errors = await voicemail(*arguments, environment=environment, folder=offline.folder)
        assert status == 0, errors
        return [line.split("\t") for line in output.splitlines()]

    await run("domain", "create", "a.example")
    await run("token", "create", "x", "--domain", "a.example", "--scope", "message:read")
    user = pwd.getpwuid(os.getuid()).pw_name

    made, domain = await run("audit", "list", "--since", "1h")

    assert made[1:7] == [f"command {user} (sudo of alice 🎉)", "-", "token.create", "a.example", "x", "done"]
    assert domain[1:7] == [f"command {user} (sudo of alice 🎉)", "-", "domain.create", "a.example", "-", "done"]
    assert await run("audit", "list", "--limit", "1") == [made]
    assert await run("audit", "list", "--action", "domain.create", "--domain", "a.example") == [domain]
    assert await run("audit", "list", "--until", "1h") == await run("audit", "list", "--who", "nobody") == []


@pytest.mark.parametrize(
    ("option", "value"), [("--action", "x"), ("--address", "x"), ("--since", "soon"), ("--until", "2026-99-01"), ("--limit", "0")]
)
def test_a_wrong_option_of_the_audit_is_named(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "list", option, value]) == 2

    assert option in capsys.readouterr().err


async def test_a_port_that_is_taken_is_told_before_the_database_is_asked(offline: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = offline.environment(http_port=port, database_url="postgresql://nobody@127.0.0.1:9/none")
        status, output, errors = await voicemail("serve", environment=environment, folder=offline.folder)

    assert (status, output) == (2, "")
    assert f"VOICEMAIL_HTTP_PORT: 127.0.0.1 port {port} cannot be listened on: address already in use; stop the program" in errors
    assert "waiting_for_database" not in errors


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_this_machines_is_told(offline: Site, host: str) -> None:
    environment = offline.environment(http_host=host, public_url="https://voicemail.example.com")
    status, _, errors = await voicemail("serve", environment=environment, folder=offline.folder)

    assert status == 2
    assert f"VOICEMAIL_HTTP_HOST: {host} is no address of this machine" in errors


@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0])
async def test_ctrl_c_soon_after_the_start_ends_a_command_without_a_traceback(
    offline: Site, command: str, seconds: float
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", command, env=offline.environment() | {"PYTHONPATH": str(CHECKOUT)}, cwd=offline.folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        said = (await process.communicate())[0].decode()

    assert process.returncode in (0, 1, 130, -signal.SIGINT)  # 0: a service that was asked to stop; 1: a doctor that was done
    assert f'File "{CHECKOUT}' not in said, said  # where Python itself is still starting, it prints a traceback of its own
    assert "Exception" not in said, said
