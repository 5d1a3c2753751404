"""What is installed on a host: the unit, the file of settings, the package; and the documents, pasted line by line."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.config import PREFIX, Settings, load_settings
from app.embedded.postgres import EmbeddedPostgres
from app.errors import SettingsError
from app.sandbox.mail import MailCatcher
from app.sandbox.switch import StandInSwitch
from app.sandbox.tables import TABLES
from app.switch.tables.indexes import INDEXES
from tests.support.databases import another
from tests.support.pbx import CHECKOUT, DOMAIN
from tests.support.throw_away_root import ThrowAwayRoot, built_deb, open_root, shell_blocks

DEPLOY = CHECKOUT / "deploy"
UNIT, EXAMPLE = DEPLOY / "voicemail.service", DEPLOY / "voicemail.env.example"
DOCUMENTS = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")])
OPERATIONS, FREESWITCH = CHECKOUT / "docs" / "operations.md", CHECKOUT / "docs" / "freeswitch.md"
RECORDINGS = "/var/lib/freeswitch/storage/voicemail/default"
TO_FILL_IN = {"DOMAIN", "DATABASE_URL", "ESL_PASSWORD", "MAIL_FROM"}


def example() -> dict[str, str]:
    """The settings that the shipped file sets."""
    return dict(line.split("=", 1) for line in EXAMPLE.read_text().splitlines() if re.match(r"[A-Z]", line))


def test_every_shell_script_and_every_shell_block_of_the_documents_can_be_read_by_a_shell() -> None:
    scripts = {path.name: path.read_text() for path in (*DEPLOY.glob("*.sh"), *(DEPLOY / "debian").glob("p*"))}
    blocks = {f"{path.name} {number}": block for path in DOCUMENTS for number, block in enumerate(shell_blocks(path))}

    assert len(scripts) >= 7
    assert len(blocks) >= 8
    for shell, texts in (("sh", scripts), ("bash", blocks)):
        for name, text in texts.items():
            done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), name


def test_the_documents_install_nothing_by_name_from_an_index() -> None:
    for path in (*DOCUMENTS, *DEPLOY.glob("*.sh")):
        for line in path.read_text().splitlines():
            assert not re.search(r"pip3? install .*(freeswitch|voicemail)", line), f"{path.name}: {line}"


def test_there_is_one_path_of_recordings() -> None:
    places = [*DOCUMENTS, UNIT, EXAMPLE, CHECKOUT / ".env.example", CHECKOUT / "docker-compose.yml"]
    places += (CHECKOUT / "freeswitch_conf").rglob("*.xml")
    found = {path for place in places for path in re.findall(r"/var/lib/freeswitch/[a-z/]*voicemail[a-z/]*", place.read_text())}

    assert found == {RECORDINGS, RECORDINGS.removesuffix("/default")}  # the latter is what the unit lets write


def test_the_shipped_settings_are_settings_and_only_what_must_be_filled_in_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    names = re.findall(rf"^#?{PREFIX}([A-Z_]+)=", EXAMPLE.read_text(), re.M)
    assert {name.lower() for name in names} <= set(Settings.model_fields)

    with pytest.raises(SettingsError) as told:
        load_settings(env_file=EXAMPLE)
    assert {error.field for error in told.value.errors} <= {PREFIX + name for name in TO_FILL_IN}
    assert {name.removeprefix(PREFIX) for name, value in example().items() if not value} == TO_FILL_IN

    filled = tmp_path / "voicemail.env"
    filled.write_text(
        EXAMPLE.read_text()
        .replace("_DOMAIN=", "_DOMAIN=a.example")
        .replace("_DATABASE_URL=", "_DATABASE_URL=postgresql://u@h/d")
        .replace("_ESL_PASSWORD=", "_ESL_PASSWORD='a # b'")
        .replace("_MAIL_FROM=", "_MAIL_FROM=v@a.example")
    )
    settings = load_settings(env_file=filled)
    assert (str(settings.recordings_path), settings.esl_password.get_secret_value()) == (RECORDINGS, "a # b")


def test_the_unit_is_one_and_is_shut_tight(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    here = tmp_path / "voicemail.service"
    here.write_text(UNIT.read_text().replace("/opt/voicemail/bin/voicemail", sys.executable))

    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True, check=False)
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", here], capture_output=True, text=True, check=False
    )

    if judged.returncode != 0 and "nrecognized option" in judged.stderr:
        pytest.skip("this systemd-analyze judges no files")
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "voicemail.service" in line]) == (0, [])
    assert judged.returncode == 0, judged.stdout[-300:]


@pytest.fixture(scope="module")
async def superuser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The DSN of a superuser on a server of its own, in a database as a PBX has it, made and used by the role freeswitch."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("documents") / "postgres", {"fsync": "off"})
    await server.start()
    await server.stop()
    assert server._cluster is not None
    server._cluster._single_user(server._cluster.data, "CREATE ROLE operator SUPERUSER LOGIN PASSWORD 'operator';\n")
    dsn = await server.start()
    admin = re.sub(r"//[^@]+@", "//operator:operator@", dsn)
    connection = await asyncpg.connect(admin)
    await connection.execute("ALTER ROLE voicemail RENAME TO somebody")  # the documents make a role of this name
    await connection.execute("CREATE ROLE freeswitch LOGIN PASSWORD 'freeswitch'")
    await connection.execute("CREATE DATABASE freeswitch OWNER freeswitch")
    await connection.close()
    connection = await asyncpg.connect(another(admin, "freeswitch"))
    await connection.execute("SET ROLE freeswitch")
    await connection.execute(TABLES.read_text())
    await connection.close()
    yield another(admin, "freeswitch")
    await server.stop()


@pytest.fixture(scope="module")
async def granted(superuser: str) -> str:
    """The DSN of the role that the SQL of docs/operations.md makes, after every statement of it was run."""
    connection = await asyncpg.connect(superuser)
    for block in shell_blocks(OPERATIONS, "sql"):
        if "voicemail_audit" in block:
            continue  # it comes after the first start; tests/integration/access/test_audit_protection.py runs it
        for statement in re.sub(r"--.*", "", block).split(";"):
            if statement.strip():
                await connection.execute(statement)
    await connection.close()
    return superuser.replace("//operator:operator@", "//voicemail:change-me@")


async def test_the_sql_of_the_documents_gives_the_service_what_it_needs(granted: str, superuser: str) -> None:
    connection = await asyncpg.connect(granted)
    indexes = await connection.fetch("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'voicemail_msgs_api%'")
    await connection.fetch("SELECT * FROM voicemail_msgs")
    assert await connection.fetchval("SELECT has_table_privilege('voicemail_prefs', 'UPDATE')")
    assert await connection.fetchval("SELECT has_database_privilege('freeswitch', 'CREATE')")
    await connection.close()
    assert {name for (name,) in indexes} == set(INDEXES)

    connection = await asyncpg.connect(superuser)  # as the switch does when it finds a column missing
    await connection.execute("BEGIN; SET LOCAL ROLE freeswitch; CREATE TABLE made_again (); RESET ROLE")
    assert await connection.fetchval("SELECT has_table_privilege('voicemail', 'made_again', 'SELECT, INSERT, DELETE')")
    await connection.execute("ROLLBACK")
    await connection.close()


@pytest.mark.skipif(not (shutil.which("sqlite3") and shutil.which("psql")), reason="sqlite3 and psql are needed")
async def test_the_move_from_sqlite_works_as_it_stands(superuser: str, tmp_path: Path) -> None:
    [block] = shell_blocks(FREESWITCH)
    move(block, superuser, tmp_path)

    connection = await asyncpg.connect(superuser)
    moved = await connection.fetch("SELECT cid_name, message_len FROM voicemail_msgs WHERE uuid = 'moved'")
    await connection.execute("DELETE FROM voicemail_msgs")
    await connection.close()
    assert [tuple(row) for row in moved] == [('Bob "B", jr.', 3)]


def move(block: str, dsn: str, folder: Path) -> None:
    """Make an SQLite file as the switch has it, and run the lines of the document on it."""
    made = re.sub(r"public\.", "", re.sub(r"CREATE INDEX.*?;", "", TABLES.read_text(), flags=re.S))
    rows = "INSERT INTO voicemail_msgs (uuid, cid_name, message_len) VALUES ('moved', 'Bob \"B\", jr.', 3);"
    subprocess.run(["sqlite3", folder / "voicemail_default.db"], input=made + rows, text=True, check=True)

    subprocess.run(["bash", "-euc", block], cwd=folder, env=os.environ | {"URL": dsn}, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> ThrowAwayRoot:
    """A root to install into."""
    return open_root(tmp_path)


def filling_in(dsn: str, root: ThrowAwayRoot, switch: StandInSwitch, mail: MailCatcher) -> str:
    """An editor that fills in the shipped settings."""
    values = {
        "DOMAIN": DOMAIN, "DATABASE_URL": dsn, "ESL_PASSWORD": switch.password, "MAIL_FROM": f"voicemail@{DOMAIN}",
    }  # fmt: skip
    further = {
        "ESL_PORT": switch.port, "SMTP_PORT": mail.port, "HTTP_PORT": 0, "RECORDINGS_SWITCH_PATH": root.recordings,
    }  # fmt: skip
    edits = " ".join(f"-e 's|^{PREFIX}{name}=$|&{value}|'" for name, value in values.items())
    lines = "".join(f"echo '{PREFIX}{name}={value}' >>\"$1\"\n" for name, value in further.items())
    return f'#!/bin/sh\nset -eu\nsed -i {edits} "$1"\n{lines}'


async def test_the_operations_guide_can_be_pasted_line_by_line(granted: str, root: ThrowAwayRoot) -> None:
    package = built_deb(root.drill / "dist")
    switch = StandInSwitch(
        granted.replace("//voicemail:change-me@", "//freeswitch:freeswitch@"), root.recordings, root.directory, DOMAIN
    )
    mail = MailCatcher()
    blocks = [
        block
        for block in shell_blocks(OPERATIONS)
        if not any(words in block for words in ("make dist", "pip download", "mount --bind"))
    ]
    root.stub("apt", '#!/bin/sh\nset -eu\n[ "$1" = install ]\nshift\nexec dpkg -i "$@"\n')
    root.stub("make", '#!/bin/sh\n[ "$*" = deb ]\n')  # built already
    await switch.start()
    await mail.start()
    try:
        root.stub("edit", filling_in(granted, root, switch, mail))
        said = await root.run(f"cd /drill\nexport EDITOR=edit\n{''.join(blocks)}\n{AFTER_THE_GUIDE.format(package=package.name)}")
    finally:
        await switch.stop()
        await mail.stop()
        package.unlink()  # 120 MB

    assert len(blocks) == 7
    assert "0 failed" in said
    assert "OK       service user: freeswitch" in said
    assert re.search(r"^vm_[0-9A-Za-z]{49}$", said, re.M)
    assert [each.recipients for each in mail.messages] == [("you@example.com",)]
    assert "settings 640 root:freeswitch" in said
    assert "state 750 freeswitch:freeswitch" in said
    assert "directory 2750 freeswitch:freeswitch" in said
    assert "after the removal: /etc/voicemail.env /var/lib/voicemail/secret.key" in said
    assert "left of the program: nothing" in said
    assert "after the purge: /var/lib/voicemail/secret.key" in said
    calls = (root.drill / "systemctl.log").read_text().splitlines()
    assert calls.count("try-restart voicemail.service") == 2  # the install and the upgrade
    assert "--no-reload disable --now voicemail.service" in calls
    assert "Traceback" not in said + (root.drill / "service.log").read_text()


AFTER_THE_GUIDE = """
grep -q '"token_created"\\|"serving"' /drill/service.log
voicemail --version
echo "settings $(stat -c '%a %U:%G' /etc/voicemail.env)"
echo "state $(stat -c '%a %U:%G' /var/lib/voicemail)"
echo "directory $(stat -c '%a %U:%G' /etc/freeswitch/voicemail)"
dpkg -i dist/{package}
dpkg -r freeswitch-voicemail
echo "after the removal: $(ls /etc/voicemail.env) $(ls /var/lib/voicemail/secret.key)"
echo "left of the program: $(ls -d /opt/voicemail /usr/bin/voicemail 2>/dev/null || echo nothing)"
dpkg -P freeswitch-voicemail
[ ! -e /etc/voicemail.env ]
echo "after the purge: $(ls /var/lib/voicemail/secret.key)"
"""


def make_wheel(folder: Path, version: str) -> None:
    """A wheel with a `voicemail` command that only says its version, and the requirements.txt that `make dist` writes."""
    name, info = f"freeswitch_voicemail-{version}-py3-none-any.whl", f"freeswitch_voicemail-{version}.dist-info"
    files = {
        "voicemail_of_a_test.py": f"def main():\n    print('voicemail {version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: freeswitch-voicemail\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nvoicemail = voicemail_of_a_test:main\n",
    }
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD")))
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"./{name} --hash=sha256:{digest}\n")


async def test_the_install_script_can_be_run_again_and_installs_only_what_its_hashes_name(root: ThrowAwayRoot) -> None:
    shutil.copytree(DEPLOY, root.drill / "deploy")
    for number, name in enumerate(("one", "two", "forged")):
        (root.drill / name).mkdir()
        make_wheel(root.drill / name, f"0.{number}")
    make_wheel(root.drill / "forged", "0.9")
    forged = root.drill / "forged" / "requirements.txt"
    forged.write_text(re.sub(r"sha256:.{8}", "sha256:00000000", forged.read_text()))
    shutil.rmtree(root.drill / "wheels", ignore_errors=True)

    said = await root.run(INSTALLS.format(python=Path(sys.base_prefix) / "bin" / "python3"))

    lines = [line for line in said.splitlines() if line.startswith(("says", "settings", "state", "kept", "unit", "releases"))]
    assert lines == [
        "says voicemail 0.0", "settings 640 root:freeswitch", "state 750 freeswitch:freeswitch", "unit 644",
        "kept VOICEMAIL_DOMAIN=kept", "says voicemail 0.1", "releases 1", "says voicemail 0.1", "unit User=www-data",
    ]  # fmt: skip
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in said
    assert (root.drill / "systemctl.log").read_text().splitlines()[:2] == ["daemon-reload", "try-restart voicemail.service"]


INSTALLS = """
export PYTHON={python}
cd /drill
deploy/install.sh one
echo "says $(voicemail --version)"
echo "settings $(stat -c '%a %U:%G' /etc/voicemail.env)"
echo "state $(stat -c '%a %U:%G' /var/lib/voicemail)"
echo "unit $(stat -c '%a' /etc/systemd/system/voicemail.service)"
echo VOICEMAIL_DOMAIN=kept >/etc/voicemail.env
deploy/install.sh one
deploy/install.sh two
echo "kept $(cat /etc/voicemail.env)"
echo "says $(voicemail --version)"
echo "releases $(ls -d /opt/voicemail-* | wc -l)"
if deploy/install.sh forged; then exit 1; fi
echo "says $(voicemail --version)"
deploy/install.sh --user www-data two
echo "unit $(grep User /etc/systemd/system/voicemail.service.d/user.conf)"
"""
