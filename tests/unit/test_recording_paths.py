"""Where a recording may lie, and where it never does."""

from pathlib import Path

import pytest

from app.recordings.paths import RecordingPaths

SWITCH = "/var/lib/freeswitch/voicemail"


@pytest.fixture
def paths() -> RecordingPaths:
    return RecordingPaths(Path("/nowhere"), SWITCH)


def test_the_switchs_folder_becomes_ours(paths: RecordingPaths) -> None:
    file_path = f"{SWITCH}/default/lab.local/101/msg_1.wav"

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


@pytest.mark.parametrize("name", ["msg_1.wav", "default/101/msg_1.wav"])
def test_the_switch_s_name_leads_back(paths: RecordingPaths, name: str) -> None:
    assert paths.relative(paths.on_switch(name)) == name
