"""The one opener of recordings: nothing from outside the folder is ever read, whatever is swapped in meanwhile."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import NotFound
from app.recordings.paths import OutsideRecordings, RecordingPaths
from app.recordings.storage import RecordingMissing, RecordingRefused, RecordingStorage

KEY = "lab.local/101/msg_1.wav"
CONTENT = b"inside" * 1000
SECRET = b"outside" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A recordings folder with one recording, and a secret beside it."""
    root = tmp_path / "recordings"
    (root / "lab.local/101").mkdir(parents=True)
    (root / KEY).write_bytes(CONTENT)
    (tmp_path / "outside/101").mkdir(parents=True)
    (tmp_path / "outside/101/msg_1.wav").write_bytes(SECRET)
    (tmp_path / "outside/msg_1.wav").write_bytes(SECRET)
    return root


@pytest.fixture
def storage(root: Path) -> RecordingStorage:
    """The storage on that folder; the switch knows it as /var/vm."""
    return RecordingStorage(RecordingPaths(root, "/var/vm"))


def test_a_recording_is_read_by_its_key(storage: RecordingStorage) -> None:
    with storage.open(storage.key("/var/vm/lab.local/101/msg_1.wav")) as recording:
        assert recording.name == "msg_1.wav"
        assert recording.opened.size == len(CONTENT)
        assert recording.read(0, 10_000) == CONTENT
        assert recording.read(6, 6) == b"inside"
        assert recording.read(len(CONTENT), 5) == b""


def test_a_recording_that_is_replaced_while_it_is_open_stays_the_one_that_was_opened(
    storage: RecordingStorage, root: Path
) -> None:
    with storage.open(KEY) as recording:
        (root / "new").write_bytes(SECRET)
        (root / "new").rename(root / KEY)

        assert recording.read(0, 10_000) == CONTENT


def test_removing_is_final_and_says_whether_there_was_anything(storage: RecordingStorage, root: Path) -> None:
    assert storage.exists(KEY)
    assert storage.remove(KEY)
    assert not (root / KEY).exists()
    assert not storage.remove(KEY)
    assert not storage.remove("lab.local/999/msg_1.wav")
    with pytest.raises(RecordingMissing, match=r"msg_1\.wav"):
        storage.open(KEY)


@pytest.mark.parametrize("file_path", ["", "/etc/passwd", "/var/vm", "/var/vm/../x.wav", "/var/vm/a\0b.wav", "relative.wav"])
def test_a_path_outside_the_folder_has_no_key(storage: RecordingStorage, file_path: str) -> None:
    with pytest.raises(OutsideRecordings):
        storage.key(file_path)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside/msg_1.wav", "lab.local/../../outside/msg_1.wav", "a\0b"])
def test_a_key_that_leads_out_is_refused_by_every_call(storage: RecordingStorage, key: str) -> None:
    for call in (storage.open, storage.stat, storage.remove, storage.local_path):
        with pytest.raises(OutsideRecordings):
            call(key)  # type: ignore[operator]


def _link_to_the_secret(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "msg_1.wav")


def _pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _outside: Path) -> None:
    path.mkdir()


def _socket(path: Path, _outside: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path, _outside: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_link_to_the_secret, _pipe, _folder, _socket, _device])
def test_what_is_no_plain_file_is_refused_at_once(storage: RecordingStorage, root: Path, make: object) -> None:
    path = root / "lab.local/101/msg_2.wav"
    make(path, root.parent / "outside")  # type: ignore[operator]

    for call in (storage.open, storage.stat, storage.remove):
        with pytest.raises((RecordingRefused, RecordingMissing)):
            call("lab.local/101/msg_2.wav")  # type: ignore[operator]
    assert os.path.lexists(path)


def test_a_folder_that_is_a_link_is_not_followed(storage: RecordingStorage, root: Path) -> None:
    (root / "elsewhere").symlink_to(root.parent / "outside")

    for key in ("elsewhere/msg_1.wav", "elsewhere/101/msg_1.wav"):
        with pytest.raises(RecordingRefused):
            storage.open(key)
        assert not storage.exists(key)
    with pytest.raises(RecordingRefused):
        storage.stat("elsewhere/msg_1.wav")
    assert (root.parent / "outside/msg_1.wav").exists()


def test_a_root_that_is_a_link_is_the_operator_s_own_choice(root: Path) -> None:
    (root.parent / "link").symlink_to(root)

    with RecordingStorage(RecordingPaths(root.parent / "link", "/var/vm")).open(KEY) as recording:
        assert recording.read(0, 6) == b"inside"


@pytest.mark.parametrize("target", ["../outside/msg_1.wav", "/etc/passwd", "b", "lab.local/101/msg_1.wav"])
def test_no_link_is_followed_wherever_it_leads(storage: RecordingStorage, root: Path, target: str) -> None:
    (root / "a").symlink_to(target)
    (root / "b").symlink_to("a")

    for key in ("a", "b", "a/msg_1.wav"):
        with pytest.raises(RecordingRefused):
            storage.open(key)


def test_a_name_in_odd_bytes_is_found_again(storage: RecordingStorage, root: Path) -> None:
    name = os.fsdecode(b"msg_\xff.wav")
    (root / name).write_bytes(b"RIFF")

    storage.open(storage.key(f"/var/vm/{name}")).close()


@pytest.mark.parametrize("name", ["x" * 300, "msg_\n.wav", "'; rm -rf 🎉", "%2e%2e"])
def test_a_name_no_file_has_is_just_not_there(storage: RecordingStorage, name: str) -> None:
    with pytest.raises(RecordingMissing):
        storage.open(storage.key(f"/var/vm/{name}"))


def test_a_name_no_file_can_have_is_refused(storage: RecordingStorage) -> None:
    for call in (storage.open, storage.stat, storage.remove, storage.gone, storage.local_path):
        with pytest.raises(OutsideRecordings):
            call(storage.key("/var/vm/\ud800.wav"))


def test_an_error_never_names_our_folder(storage: RecordingStorage, root: Path) -> None:
    for file_path in ("/etc/pass\nwd", "/var/vm/lab.local/ms\ng.wav", "/var/vm/lab.local", "/var/vm/lab.local/101/msg_1.wav/x"):
        with pytest.raises(NotFound) as error:
            storage.open(storage.key(file_path))

        assert str(root) not in error.value.detail
        assert "\n" not in error.value.detail


def test_a_second_name_is_refused_only_if_the_operator_says_so(storage: RecordingStorage, root: Path) -> None:
    os.link(root.parent / "outside/msg_1.wav", root / "lab.local/101/msg_3.wav")
    strict = RecordingStorage(RecordingPaths(root, "/var/vm"), refuse_hard_links=True)

    assert storage.exists("lab.local/101/msg_3.wav")
    with pytest.raises(RecordingRefused, match="hard link"):
        strict.open("lab.local/101/msg_3.wav")
    with strict.open(KEY) as recording:
        assert recording.opened.size == len(CONTENT)


def test_every_descriptor_is_given_back(storage: RecordingStorage, root: Path) -> None:
    os.mkfifo(root / "lab.local/101/msg_4.wav")
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(50):
        storage.open(KEY).close()
        storage.exists(KEY)
        for wrong in ("lab.local/101/msg_4.wav", "lab.local/404/msg_1.wav", "lab.local/101/msg_1.wav/msg_1.wav"):
            with pytest.raises(NotFound):
                storage.open(wrong)

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def swapping(root: Path) -> Iterator[threading.Event]:
    """Swaps file, link, pipe and parent folder in the recording's place as fast as it can."""
    stop = threading.Event()
    folder, path, outside = root / "lab.local/101", root / KEY, root.parent / "outside"

    def replace_file(make: object) -> None:
        temporary = folder / "swap"
        with suppress(FileNotFoundError):
            temporary.unlink()
        make(temporary, outside)  # type: ignore[operator]
        temporary.rename(path)

    def replace_folder() -> None:
        folder.rename(root / "lab.local/aside")
        folder.symlink_to(outside / "101")
        folder.unlink()
        (root / "lab.local/aside").rename(folder)

    def swap() -> None:
        while not stop.is_set():
            replace_file(lambda temporary, _: temporary.write_bytes(CONTENT))
            replace_file(_link_to_the_secret)
            replace_file(_pipe)
            replace_folder()

    thread = threading.Thread(target=swap)
    thread.start()
    yield stop
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_nothing_from_outside_is_read_while_everything_is_swapped(storage: RecordingStorage, swapping: threading.Event) -> None:
    read = refused = 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with storage.open(KEY) as recording:
                content = recording.read(0, 100_000)
        except NotFound:
            refused += 1
            continue
        read += 1
        assert SECRET[:7] not in content
        assert content in (CONTENT, b"") or CONTENT.startswith(content)
    swapping.set()

    assert read > 10
    assert refused > 10


def test_nothing_outside_is_removed_while_everything_is_swapped(
    storage: RecordingStorage, root: Path, swapping: threading.Event
) -> None:
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with suppress(NotFound, OSError):
            storage.remove(KEY)
    swapping.set()

    assert (root.parent / "outside/101/msg_1.wav").read_bytes() == SECRET
    assert (root.parent / "outside/msg_1.wav").read_bytes() == SECRET
