"""What the doctor knows of the installed service: its file of settings, its unit, its user."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import config
from app.config import SYSTEM_FILE, load_settings, settings_file
from app.doctor.unit import Unit, read_unit
from app.errors import SettingsError

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "voicemail.service"
# The doctor of a service whose unit names `nobody`, in a process that may give up its rights.
DOCTOR = """
import json, os, sys
from pathlib import Path
from app.doctor import rights
from app.doctor.unit import Unit
rights.read_unit = lambda: Unit(Path("/x/voicemail.service"), "nobody", "", None)
rights._PROGRAM = Path("/usr")
[finding] = rights.become_service_user(Path(sys.argv[1]))
print(json.dumps([finding.state, finding.found, finding.remedy, os.geteuid(), os.getegid(), os.getgroups()]))
"""


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting anywhere, and a file in place of /etc/voicemail.env."""
    for name in list(os.environ):
        if name.startswith(config.PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "installed.env"
    installed.write_text("VOICEMAIL_DOMAIN=a.example\n")
    monkeypatch.setattr(config, "SYSTEM_FILE", installed)
    return installed


def test_the_installed_service_s_settings_are_read_if_nothing_else_is_given(nothing_set: Path) -> None:
    assert settings_file(None) == nothing_set
    assert Path("/etc/voicemail.env") == SYSTEM_FILE

    nothing_set.unlink()
    assert settings_file(None) == Path(".env")


def test_a_named_file_dot_env_and_the_environment_come_first(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings_file(tmp_path / "other.env") == tmp_path / "other.env"

    (tmp_path / ".env").write_text("")
    assert settings_file(None) == Path(".env")

    (tmp_path / ".env").unlink()
    monkeypatch.setenv("VOICEMAIL_LOG_LEVEL", "info")
    assert settings_file(None) == Path(".env")


def test_settings_that_may_not_be_read_are_told_and_not_that_they_are_missing(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != nothing_set)

    with pytest.raises(SettingsError) as told:
        load_settings(env_file=nothing_set)

    assert [error.field for error in told.value.errors] == [str(nothing_set)]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The operator's folder of units, and that of packages."""
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    for folder in (etc, usr):
        folder.mkdir()
    return etc, usr


def test_the_shipped_unit_is_read(folders: tuple[Path, Path]) -> None:
    etc, usr = folders
    assert read_unit(folders) is None
    (usr / "voicemail.service").write_text(SHIPPED.read_text())

    unit = read_unit(folders)

    assert unit is not None
    assert (unit.user, unit.group) == ("freeswitch", "freeswitch")
    assert unit.lets_write(Path("/etc/freeswitch/voicemail/branch.example"))
    assert unit.lets_write(Path("/var/lib/freeswitch/storage/voicemail/default"))
    assert unit.lets_write(Path("/var/lib/voicemail"))
    assert not unit.lets_write(Path("/srv/recordings"))
    assert not unit.lets_write(Path("/etc/freeswitch"))
    assert not (etc / "voicemail.service").exists()


def test_drop_ins_are_read_as_systemd_reads_them(folders: tuple[Path, Path]) -> None:
    etc, usr = folders
    for folder in (etc, usr):
        (folder / "voicemail.service.d").mkdir()
    (usr / "voicemail.service").write_text(SHIPPED.read_text())
    (usr / "voicemail.service.d" / "a.conf").write_text("[Service]\nUser=overridden\n")
    (etc / "voicemail.service.d" / "a.conf").write_text(
        "[Unit]\nUser=not here\n[Service]\n# User=nor here\nUser=www-data\nGroup=\n"
    )
    (etc / "voicemail.service.d" / "b.conf").write_text("[Service]\nReadWritePaths=\nReadWritePaths=-/srv/a \\\n  /srv/b\n")

    unit = read_unit(folders)

    assert unit == Unit(usr / "voicemail.service", "www-data", "", (Path("/srv/a"), Path("/srv/b"), Path("/var/lib/voicemail")))


def test_a_unit_that_protects_nothing_lets_write_everything(folders: tuple[Path, Path]) -> None:
    (folders[0] / "voicemail.service").write_text("[Service]\nUser=1000\n")

    unit = read_unit(folders)

    assert unit is not None
    assert (unit.user, unit.lets_write(Path("/srv"))) == ("1000", True)


@pytest.fixture
def env_file() -> Iterator[Path]:
    """A file that a user other than root can reach, as pytest's own folders cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "voicemail.env"
        path.write_text("VOICEMAIL_DOMAIN=lab.local\n")
        yield path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("mode", "state"), [(0o644, "ok"), (0o600, "failed")])
def test_root_looks_with_the_rights_of_the_unit_s_user(env_file: Path, mode: int, state: str) -> None:
    env_file.chmod(mode)

    done = subprocess.run(
        [sys.executable, "-c", DOCTOR, str(env_file)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    said, found, remedy, uid, gid, groups = json.loads(done.stdout)
    nobody = pwd.getpwnam("nobody")
    assert (said, uid, gid) == (state, nobody.pw_uid, nobody.pw_gid)
    assert 0 not in groups
    assert str(env_file) in (found if state == "failed" else str(env_file))
    assert ("chmod 0640" in remedy) is (state == "failed")
