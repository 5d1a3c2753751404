"""A second recording of a message in another mailbox's folder."""

import os
from pathlib import Path

import pytest

from app.recordings.paths import OutsideRecordings, RecordingPaths
from app.recordings.placing import RecordingPlacer
from app.recordings.storage import RecordingMissing, RecordingRefused, RecordingStorage

SOURCE, TARGET = "lab.local/101/msg_1.wav", "far.local/102/msg_2.wav"


@pytest.fixture
def storage(tmp_path: Path) -> RecordingStorage:
    path = tmp_path / SOURCE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a voice")
    path.chmod(0o640)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return RecordingStorage(RecordingPaths(tmp_path, "/switch"))


@pytest.mark.parametrize(("links", "link"), [(True, True), (True, False), (False, True)])
def test_it_is_the_same_recording_with_the_same_rights_also_when_it_is_placed_again(
    storage: RecordingStorage, tmp_path: Path, links: bool, link: bool
) -> None:
    placer = RecordingPlacer(storage, links=links)

    for _ in range(2):
        placer.place(SOURCE, TARGET, link=link)

    source, target = (tmp_path / SOURCE).stat(), (tmp_path / TARGET).stat()
    assert (tmp_path / TARGET).read_bytes() == b"a voice"
    assert (target.st_mode, target.st_mtime_ns, target.st_uid) == (source.st_mode, source.st_mtime_ns, source.st_uid)
    assert (target.st_ino == source.st_ino) is (links and link)
    assert (tmp_path / TARGET).parent.stat().st_mode & 0o777 == 0o750
    assert len(list((tmp_path / TARGET).parent.iterdir())) == 1


def test_what_is_placed_needs_its_source_no_more(storage: RecordingStorage, tmp_path: Path) -> None:
    placer = RecordingPlacer(storage)
    placer.place(SOURCE, TARGET, link=True)
    (tmp_path / SOURCE).unlink()

    placer.place(SOURCE, TARGET, link=True)

    assert (tmp_path / TARGET).read_bytes() == b"a voice"


def test_half_a_copy_of_a_process_that_died_is_made_anew(storage: RecordingStorage, tmp_path: Path) -> None:
    part = (tmp_path / TARGET).with_name("msg_2.wav.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"a vo")

    RecordingPlacer(storage, links=False).place(SOURCE, TARGET, link=True)

    assert [path.name for path in part.parent.iterdir()] == ["msg_2.wav"]
    assert (tmp_path / TARGET).read_bytes() == b"a voice"


def test_links_and_what_lies_outside_are_not_followed(storage: RecordingStorage, tmp_path: Path) -> None:
    placer = RecordingPlacer(storage)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.local").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "lab.local/101/msg_3.wav").symlink_to(tmp_path / SOURCE)

    with pytest.raises(OSError):
        placer.place(SOURCE, "link.local/102/msg_2.wav", link=True)
    with pytest.raises(OutsideRecordings):
        placer.place(SOURCE, "../102/msg_2.wav", link=True)
    with pytest.raises(RecordingRefused):
        placer.place("lab.local/101/msg_3.wav", TARGET, link=True)
    with pytest.raises(RecordingMissing):
        placer.place("lab.local/101/msg_4.wav", TARGET, link=True)

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / TARGET).exists()
