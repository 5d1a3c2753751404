"""Where a recording may lie, and where it never does."""

import os
from pathlib import Path

import pytest

from app.errors import NotFound
from app.recordings.paths import OutsideRecordings, RecordingPaths

SWITCH = "/var/lib/freeswitch/voicemail"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    (folder / "default/lab.local/101").mkdir(parents=True)
    (folder / "default/lab.local/101/msg_1.wav").write_bytes(b"RIFF")
    (tmp_path / "secret.wav").write_bytes(b"secret")
    return folder


@pytest.fixture
def paths(root: Path) -> RecordingPaths:
    return RecordingPaths(root, SWITCH)


def test_the_switchs_folder_becomes_ours(paths: RecordingPaths, root: Path) -> None:
    file_path = f"{SWITCH}/default/lab.local/101/msg_1.wav"

    assert paths.local(file_path) == root / "default/lab.local/101/msg_1.wav"
    assert paths.relative(file_path) == "default/lab.local/101/msg_1.wav"


def test_doubled_slashes_mean_nothing(paths: RecordingPaths) -> None:
    assert paths.relative(f"/{SWITCH}//default/./lab.local//101/msg_1.wav") == "default/lab.local/101/msg_1.wav"


@pytest.mark.parametrize(
    "file_path",
    [
        "",
        "/",
        SWITCH,
        f"{SWITCH}/",
        "msg_1.wav",
        "default/lab.local/101/msg_1.wav",
        "/etc/passwd",
        f"{SWITCH}-other/msg_1.wav",
        f"{SWITCH}/../secret.wav",
        f"{SWITCH}/default/../../secret.wav",
        f"{SWITCH}/default/lab.local/101/../101/msg_1.wav",
        f"{SWITCH}/default/msg_1.wav\0.txt",
        "http://example.com/msg_1.wav",
    ],
)
def test_a_path_elsewhere_is_refused(paths: RecordingPaths, file_path: str) -> None:
    assert paths.relative(file_path) is None
    with pytest.raises(OutsideRecordings, match="not in the recordings folder"):
        paths.local(file_path)


@pytest.mark.parametrize("link_to", ["../secret.wav", "/etc/passwd"])
def test_a_link_that_leads_out_is_refused(paths: RecordingPaths, root: Path, link_to: str) -> None:
    (root / "msg_link.wav").symlink_to(link_to)

    with pytest.raises(OutsideRecordings):
        paths.local(f"{SWITCH}/msg_link.wav")


def test_a_linked_folder_that_leads_out_is_refused(paths: RecordingPaths, root: Path, tmp_path: Path) -> None:
    (root / "102").symlink_to(tmp_path)

    with pytest.raises(OutsideRecordings):
        paths.local(f"{SWITCH}/102/secret.wav")


def test_a_link_in_a_circle_is_refused(paths: RecordingPaths, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")

    with pytest.raises(NotFound):
        paths.local(f"{SWITCH}/a/msg_1.wav")


def test_a_link_that_stays_inside_is_followed(paths: RecordingPaths, root: Path) -> None:
    (root / "short").symlink_to("default/lab.local/101")

    assert paths.local(f"{SWITCH}/short/msg_1.wav") == root / "default/lab.local/101/msg_1.wav"


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)

    paths = RecordingPaths(link, SWITCH)

    assert paths.local(f"{SWITCH}/default/lab.local/101/msg_1.wav").read_bytes() == b"RIFF"


def test_a_name_in_odd_bytes_is_found_again(paths: RecordingPaths, root: Path) -> None:
    name = os.fsdecode(b"msg_\xff.wav")
    (root / name).write_bytes(b"RIFF")

    assert paths.local(f"{SWITCH}/{name}").is_file()


@pytest.mark.parametrize("name", ["x" * 300, "msg_\n.wav"])
def test_a_name_no_file_has_is_just_not_there(paths: RecordingPaths, name: str) -> None:
    assert paths.local(f"{SWITCH}/{name}").name == name


def test_a_name_no_file_can_have_is_refused(paths: RecordingPaths) -> None:
    with pytest.raises(OutsideRecordings):
        paths.local(f"{SWITCH}/\ud800.wav")


def test_an_error_never_names_our_folder(paths: RecordingPaths, root: Path) -> None:
    with pytest.raises(OutsideRecordings) as error:
        paths.local("/etc/pass\nwd")

    assert str(root) not in error.value.detail
    assert "\n" not in error.value.detail
