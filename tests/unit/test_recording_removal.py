"""Removing a recording's file: exactly the name in its row, and only if the service may."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import NotFound
from app.recordings.paths import RecordingPaths
from app.recordings.remover import FileRemover

ON_SWITCH = "/var/lib/freeswitch/voicemail"


@pytest.fixture
def root() -> Iterator[Path]:
    """A recordings folder that any user of this machine may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "101").mkdir(mode=0o750)
    (folder / "101/msg_1.wav").write_bytes(b"RIFF")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def remover(root: Path) -> FileRemover:
    return FileRemover(RecordingPaths(root, ON_SWITCH))


def test_a_file_is_removed_once(remover: FileRemover, root: Path) -> None:
    path = f"{ON_SWITCH}/101/msg_1.wav"

    assert (remover.obstacle(path), remover.exists(path)) == ("", True)
    assert remover.remove(path)

    assert (remover.obstacle(path), remover.exists(path), remover.remove(path)) == ("", False, False)
    assert (root / "101").exists()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        ON_SWITCH,
        f"{ON_SWITCH}/",
        f"{ON_SWITCH}/101",
        f"{ON_SWITCH}/101/..",
        f"{ON_SWITCH}/../secret.wav",
        f"{ON_SWITCH}/101/../../secret.wav",
        f"{ON_SWITCH}/link.wav",
        f"{ON_SWITCH}/out/secret.wav",
        f"{ON_SWITCH}/pipe",
        "/etc/passwd",
        "101/msg_1.wav",
        f"{ON_SWITCH}/101/msg_1.wav\0",
        f"{ON_SWITCH}/101/%2e%2e\n",
        f"{ON_SWITCH}/{'n' * 300}",
        f"{ON_SWITCH}/'; rm -rf 🎉",
        f"{ON_SWITCH}/\udcff.wav",
    ],
)
def test_nothing_else_is_removed(remover: FileRemover, root: Path, path: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    (root / "link.wav").symlink_to(root / "101/msg_1.wav")
    (root / "out").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    before = sorted(root.rglob("*"))

    remover.obstacle(path)
    remover.exists(path)
    with suppress(NotFound, OSError):
        assert remover.remove(path) is False

    assert sorted(root.rglob("*")) == before
    assert secret.exists()


def test_a_file_in_the_switch_s_folder_cannot_be_removed_by_another_user_and_it_says_so(remover: FileRemover, root: Path) -> None:
    """FreeSWITCH makes a mailbox's folder with mode 0750, so a service in its group may read there and no more."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    child = os.fork()
    if child == 0:
        os.setegid(65534)
        os.setgroups([0])
        os.seteuid(65534)
        os._exit(0 if "may not remove" in remover.obstacle(f"{ON_SWITCH}/101/msg_1.wav") else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (root / "101/msg_1.wav").exists()
