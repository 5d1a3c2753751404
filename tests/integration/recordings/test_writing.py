"""Files that this service writes into the recordings folder: whole or not at all, and of use to the switch."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.errors import Unavailable
from app.recordings import writing
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingsFolderGone, RecordingStorage

KEY = "lab.local/101/greeting_1.wav"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def storage(tmp_path: Path) -> RecordingStorage:
    """An empty recordings folder."""
    (root := tmp_path / "recordings").mkdir()
    return RecordingStorage(RecordingPaths(root, "/switch"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own they cannot."""
    with TemporaryDirectory() as name:
        yield Path(name)


def test_folders_are_made_and_nothing_temporary_is_left(storage: RecordingStorage) -> None:
    writing.write(storage, KEY, b"one")
    writing.write(storage, KEY, b"two")

    path = storage.local_path(KEY)
    assert path.read_bytes() == b"two"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o7777) == (0o640, 0o750)
    assert sorted(str(found.relative_to(storage.paths.root)) for found in storage.paths.root.rglob("*")) == [
        "lab.local", "lab.local/101", KEY,
    ]  # fmt: skip


@as_root
def test_what_is_made_belongs_to_the_owner_of_the_folder(storage: RecordingStorage) -> None:
    os.chown(storage.paths.root, NOBODY, NOBODY)

    writing.write(storage, KEY, b"one")

    path = storage.local_path(KEY)
    for made in (path, path.parent, path.parent.parent):
        assert (made.stat().st_uid, made.stat().st_gid) == (NOBODY, NOBODY)


@as_root
@pytest.mark.parametrize(("group", "mode", "file_mode"), [(True, 0o770, 0o660), (False, None, None)])
def test_another_user_makes_only_folders_that_the_switch_can_use(
    open_folder: Path, group: bool, mode: int | None, file_mode: int | None
) -> None:
    storage = RecordingStorage(RecordingPaths(open_folder, "/switch"))
    os.chown(open_folder, 0, 4242)
    open_folder.chmod(0o777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([4242] if group else [])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.chdir("/")
            inner = RecordingStorage(storage.paths)
            try:
                writing.write(inner, KEY, b"one")
                status = 0
            except Unavailable:
                status = 3
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    path = storage.local_path(KEY)
    assert status == (0 if group else 3)
    if group:
        assert (path.parent.stat().st_mode & 0o7777, path.stat().st_mode & 0o777) == (mode, file_mode)
    else:
        assert list(storage.paths.root.iterdir()) == []


def test_what_a_killed_process_left_is_removed_after_an_hour(storage: RecordingStorage) -> None:
    writing.write(storage, KEY, b"one")
    folder = storage.local_path(KEY).parent
    for name, age in ((".msg_a.wav.new", 4000), (".msg_b.wav.new", 60), ("msg_c.wav", 4000), (".hidden", 4000)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age, time.time() - age))

    writing.write(storage, KEY, b"two")

    assert sorted(entry.name for entry in folder.iterdir()) == [".hidden", ".msg_b.wav.new", "greeting_1.wav", "msg_c.wav"]


def test_links_and_a_missing_folder_are_no_way_out(storage: RecordingStorage, tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (storage.paths.root / "lab.local").symlink_to(outside)
    with pytest.raises(Unavailable):
        writing.write(storage, KEY, b"one")
    assert list(outside.iterdir()) == []
    for key in ("../x.wav", "/etc/x.wav", "a/../../x.wav", "a\0.wav"):
        with pytest.raises(Unavailable):
            writing.write(storage, key, b"one")

    gone = RecordingStorage(RecordingPaths(tmp_path / "gone", "/switch"))
    with pytest.raises(RecordingsFolderGone):
        writing.write(gone, KEY, b"one")
    assert not (tmp_path / "gone").exists()
