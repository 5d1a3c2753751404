"""Conversions in child processes: shared, limited, cancelled, and kept within a bound without half files."""

import asyncio
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import Unavailable
from app.recordings.audio.cache import AudioCache
from app.recordings.audio.conversions import Conversions, Unconvertible
from app.recordings.audio.kinds import Kind
from app.recordings.storage import OpenRecording
from tests.support.conversions import children
from tests.support.sounds import in_format, wav

MIB = 1024 * 1024


def opened(path: Path) -> OpenRecording:
    return OpenRecording(os.open(path, os.O_RDONLY), path.name)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[OpenRecording]:
    path = tmp_path / "msg_1.wav"
    path.write_bytes(in_format("ulaw"))
    with opened(path) as recording:
        yield recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audio"


async def until_children(number: int) -> None:
    async with asyncio.timeout(10):
        while len(children()) != number:
            await asyncio.sleep(0.01)


@pytest.fixture
def long(tmp_path: Path) -> Iterator[OpenRecording]:
    """A recording whose conversion takes some seconds."""
    path = tmp_path / "msg_long.wav"
    head = wav(seconds=1)[:44]
    with path.open("wb") as file:
        file.write(head[:40] + (200 * MIB).to_bytes(4, "little"))
        file.truncate(200 * MIB + 44)
    with opened(path) as recording:
        yield recording


async def test_a_result_is_kept_for_the_owner_alone(recording: OpenRecording, folder: Path) -> None:
    conversions = Conversions(folder, most_bytes=MIB)

    with await conversions.converted(recording, "k", Kind.MP3) as made:
        content = made.read(0, made.opened.size)
    (kept,) = folder.iterdir()
    changed = kept.stat().st_ino
    with await conversions.converted(recording, "k", Kind.MP3) as again:
        assert again.read(0, again.opened.size) == content

    assert kept.stat().st_ino == changed
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_another_recording_under_the_same_name_is_another_one(
    recording: OpenRecording, tmp_path: Path, folder: Path
) -> None:
    conversions = Conversions(folder, most_bytes=MIB)
    before = await conversions.waveform(recording, "k", 1)
    path = tmp_path / "msg_1.wav"
    path.write_bytes(in_format("ulaw", seconds=1))

    with opened(path) as other:
        assert (await conversions.waveform(other, "k", 1)).duration == 1.0
    assert before.duration == 0.5


async def test_callers_that_want_the_same_share_one_child(long: OpenRecording, folder: Path) -> None:
    conversions = Conversions(folder, most_bytes=MIB)
    tasks = [asyncio.ensure_future(conversions.converted(long, "k", Kind.MP3)) for _ in range(5)]

    await until_children(1)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks[1:])
    await asyncio.sleep(0.05)
    assert len(children()) == 1  # one caller still waits

    tasks[0].cancel()
    await asyncio.wait(tasks)
    await until_children(0)
    async with asyncio.timeout(10):
        while list(folder.iterdir()):
            await asyncio.sleep(0.01)


async def test_a_child_that_takes_too_long_is_killed(long: OpenRecording, folder: Path) -> None:
    conversions = Conversions(folder, most_bytes=MIB, seconds=0.3)

    with pytest.raises(Unconvertible, match="too long"):
        await conversions.converted(long, "k", Kind.MP3)

    assert children() == set()
    assert list(folder.iterdir()) == []


async def test_at_most_so_many_children_run_at_once(tmp_path: Path, folder: Path, long: OpenRecording) -> None:
    conversions = Conversions(folder, most_bytes=MIB, at_once=2)
    tasks = [asyncio.ensure_future(conversions.converted(long, f"k{number}", Kind.MP3)) for number in range(6)]

    await until_children(2)
    await asyncio.sleep(0.1)
    assert len(children()) == 2

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until_children(0)


async def test_a_queue_that_is_full_is_said(long: OpenRecording, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.recordings.audio.conversions._MOST_WAITING", 1)
    conversions = Conversions(folder, most_bytes=MIB)
    first = asyncio.ensure_future(conversions.converted(long, "k", Kind.MP3))
    await until_children(1)

    with pytest.raises(Unavailable):
        await conversions.converted(long, "other", Kind.MP3)

    first.cancel()
    await asyncio.wait([first])
    await until_children(0)


async def test_a_recording_that_is_too_large_is_not_read(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "msg_1.wav"
    with path.open("wb") as file:
        file.truncate(300 * MIB)

    with opened(path) as recording, pytest.raises(Unconvertible, match="larger than"):
        await Conversions(folder, most_bytes=MIB).converted(recording, "k", Kind.MP3)


async def test_a_folder_that_cannot_be_written_is_said(recording: OpenRecording, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(Unavailable):
        await Conversions(tmp_path / "file" / "audio", most_bytes=MIB).converted(recording, "k", Kind.MP3)


async def test_without_room_a_result_is_served_and_not_kept(recording: OpenRecording, folder: Path) -> None:
    with await Conversions(folder, most_bytes=0).converted(recording, "k", Kind.MP3) as made:
        assert made.read(0, 1) == b"\xff"

    assert list(folder.iterdir()) == []


async def test_a_recording_that_grows_meanwhile_is_not_kept(tmp_path: Path, folder: Path, long: OpenRecording) -> None:
    conversions = Conversions(folder, most_bytes=1024 * MIB)
    converting = asyncio.ensure_future(conversions.converted(long, "k", Kind.WAV))
    await until_children(1)
    with (tmp_path / "msg_long.wav").open("ab") as file:
        file.write(b"more")

    (await converting).close()

    assert list(folder.iterdir()) == []


def put(cache: AudioCache, name: str, size: int) -> None:
    draft = cache.draft()
    os.write(draft.descriptor, bytes(size))
    cache.keep(draft, name)
    cache.drop(draft)


def test_what_was_used_least_recently_goes_first(folder: Path) -> None:
    cache = AudioCache(folder, 3000)
    for age, name in ((300, "a"), (200, "b"), (100, "c")):
        put(cache, name, 1000)
        os.utime(folder / name, (time.time() - age, time.time() - age))
    used = cache.open("a")
    assert used is not None
    used.close()

    put(cache, "d", 1000)

    assert sorted(file.name for file in folder.iterdir()) == ["a", "c", "d"]


def test_drafts_of_killed_processes_go_and_those_of_others_stay(folder: Path) -> None:
    cache = AudioCache(folder, 3000)
    old, young = cache.draft(), cache.draft()
    os.utime(old.path, (time.time() - 3600, time.time() - 3600))

    cache.trim()

    assert [file.name for file in folder.iterdir()] == [young.path.name]
    for draft in (old, young):
        cache.drop(draft)


def test_a_link_in_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    cache = AudioCache(folder, 3000)
    put(cache, "a", 10)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "b").symlink_to(tmp_path / "secret")

    assert cache.open("b") is None
    assert cache.open("nothing") is None


KILLED = """
import asyncio, os, pathlib, sys
from app.recordings.audio.conversions import Conversions
from app.recordings.audio.kinds import Kind
from app.recordings.storage import OpenRecording
source, folder = sys.argv[1:]
recording = OpenRecording(os.open(source, os.O_RDONLY), "msg_1.wav")
async def main():
    print("ready", flush=True)
    await Conversions(pathlib.Path(folder), most_bytes=10**9).converted(recording, "k", Kind.MP3)
asyncio.run(main())
"""


@pytest.mark.parametrize("after", [0.05, 0.3, 0.8])
async def test_kill_9_leaves_no_half_file_that_is_served(tmp_path: Path, folder: Path, after: float) -> None:
    source = tmp_path / "msg_1.wav"
    source.write_bytes(wav(seconds=120))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(source), str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(after)
    if process.returncode is None:
        process.kill()
    await process.wait()

    kept = [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.exists() else []
    with opened(source) as recording, await Conversions(folder, most_bytes=10**9).converted(recording, "k", Kind.MP3) as made:
        whole = made.opened.size

    assert all(file.stat().st_size == whole for file in kept)
    assert whole == pytest.approx(120 * 3000, rel=0.02)  # 24 kbit/s
