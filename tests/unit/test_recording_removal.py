"""Removing a recording's file: exactly the name in its row, and only if the service may."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import NotFound, Unavailable
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingsFolderGone, RecordingStorage

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
def storage(root: Path) -> RecordingStorage:
    return RecordingStorage(RecordingPaths(root, ON_SWITCH))


def test_a_file_is_removed_once(storage: RecordingStorage, root: Path) -> None:
    key = storage.key(f"{ON_SWITCH}/101/msg_1.wav")

    assert (storage.obstacle(key), storage.exists(key)) == ("", True)
    assert storage.remove(key)

    assert (storage.obstacle(key), storage.exists(key), storage.remove(key)) == ("", False, False)
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
def test_nothing_else_is_removed(storage: RecordingStorage, root: Path, path: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    (root / "link.wav").symlink_to(root / "101/msg_1.wav")
    (root / "out").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    before = sorted(root.rglob("*"))

    with suppress(NotFound):
        storage.obstacle(storage.key(path))
        storage.exists(storage.key(path))
    with suppress(NotFound, OSError):
        assert storage.remove(storage.key(path)) is False

    assert sorted(root.rglob("*")) == before
    assert secret.exists()


def test_a_file_in_the_switch_s_folder_cannot_be_removed_by_another_user_and_it_says_so(
    storage: RecordingStorage, root: Path
) -> None:
    """FreeSWITCH makes a mailbox's folder with mode 0750, so a service in its group may read there and no more."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    child = os.fork()
    if child == 0:
        os.setegid(65534)
        os.setgroups([0])
        os.seteuid(65534)
        os._exit(0 if "may not remove" in storage.obstacle("101/msg_1.wav") else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (root / "101/msg_1.wav").exists()


@pytest.mark.parametrize("refuse_hard_links", [False, True])
def test_a_file_with_a_second_name_stays_if_the_operator_says_so(root: Path, refuse_hard_links: bool) -> None:
    os.link(root / "101/msg_1.wav", root / "101/second")
    storage = RecordingStorage(RecordingPaths(root, ON_SWITCH), refuse_hard_links=refuse_hard_links)

    why = storage.obstacle("101/msg_1.wav")
    with suppress(NotFound):
        storage.remove("101/msg_1.wav")

    assert ("hard link" in why) is refuse_hard_links
    assert (root / "101/msg_1.wav").exists() is refuse_hard_links


def test_a_disk_that_is_not_mounted_is_no_removed_recording(tmp_path: Path) -> None:
    """Removal deletes the row first: what it could not see must not count as removed."""
    storage = RecordingStorage(RecordingPaths(tmp_path / "unmounted", ON_SWITCH))

    assert "recordings folder" in storage.obstacle("101/msg_1.wav")
    for call in (storage.remove, storage.gone, storage.open, storage.stat):
        with pytest.raises(RecordingsFolderGone):
            call("101/msg_1.wav")


def test_only_a_name_missing_from_its_folder_is_certainly_gone(storage: RecordingStorage, root: Path) -> None:
    (root / "102").symlink_to(root / "101")

    assert not storage.gone("101/msg_1.wav")
    assert storage.gone("101/msg_2.wav")
    for key in ("404/msg_1.wav", "102/msg_2.wav", "101/msg_1.wav/msg_1.wav"):
        with pytest.raises(Unavailable):
            storage.gone(key)
