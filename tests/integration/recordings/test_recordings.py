"""The index follows the recordings folder, whatever happens in it."""

import asyncio
import hashlib
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from structlog.testing import capture_logs

from app.database.pool import Pool
from app.errors import NotFound
from app.recordings import files
from app.recordings.files import RecordingsFolderGone
from app.recordings.index import RecordingIndex
from app.recordings.paths import RecordingPaths
from app.recordings.storage import OpenRecording, RecordingStorage
from app.recordings.watcher import RecordingWatcher
from app.recordings.wav import WavFacts, wav_facts

REAL = Path(__file__).parents[3] / "app/sandbox/recordings/msg_ec3e1941-405a-479e-b1e1-fb3cb69ef20c.wav"
BOX = "default/lab.local/101"
SWITCH = "/var/lib/freeswitch/voicemail"
SETTLE = 0.3


class Folder:
    """The recordings folder, its index, and what its watcher hinted."""

    def __init__(self, root: Path, pool: Pool) -> None:
        self.root = root
        self.pool = pool
        self.hints = 0
        self.hinted: set[str] = set()
        self.paths = RecordingPaths(root, SWITCH)
        self.index = RecordingIndex(pool, RecordingStorage(self.paths), settle=SETTLE)
        root.mkdir()

    def leave(self, name: str, content: bytes | None = None, *, age: float = 60.0) -> Path:
        """A file as a call left it a while ago."""
        path = self.root / BOX / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(REAL.read_bytes() if content is None else content)
        os.utime(path, (time.time() - age,) * 2)
        return path

    async def indexed(self) -> dict[str, int]:
        """The size of each file in the index by its name."""
        return {
            path.rpartition("/")[2]: size for path, size in await self.pool.fetch("SELECT path, size FROM voicemail.recording")
        }

    def hint(self, paths: Collection[str]) -> None:
        self.hints += 1
        self.hinted |= set(paths)

    @asynccontextmanager
    async def watched(self, **settings: float) -> AsyncIterator[RecordingWatcher]:
        """The watcher runs, and its first scan is done."""
        watcher = RecordingWatcher(self.index, self.paths, self.hint, look=0.1, **settings)
        with capture_logs() as logs:
            task = asyncio.create_task(watcher.run())
            await until(lambda: _true(task.done() or any(line.get("done") for line in logs)))
        try:
            yield watcher
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()


async def _true(value: bool) -> bool:
    return value


async def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait until an answer is true."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)


async def has(folder: Folder, *names: str) -> bool:
    """Whether the index holds just these."""
    return set(await folder.indexed()) == set(names)


@pytest.fixture
def folder(tmp_path: Path, pool: Pool) -> Folder:
    return Folder(tmp_path / "recordings", pool)


async def test_a_scan_notes_size_duration_codec_and_digest(folder: Folder, pool: Pool) -> None:
    folder.leave("msg_1.wav")

    await folder.index.scan()

    row = await pool.fetchrow("SELECT path, size, duration, codec, sample_rate, channels, sha256 FROM voicemail.recording")
    digest = hashlib.sha256(REAL.read_bytes()).digest()
    assert tuple(row) == (f"{BOX}/msg_1.wav", 166646, 10.4, "pcm_s16le", 8000, 1, digest)


async def test_only_messages_are_indexed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "msg_1.wav",
        "msg_2.MP3",
        "greeting_1.wav",
        "recorded_name.wav",
        "msg_3.wav.tmp",
        ".msg_4.wav",
        "msg_5",
        "vm.xml",
    ):
        folder.leave(name)
    (folder.root / BOX / "msg_folder.wav").mkdir()
    (folder.root / BOX / "msg_link.wav").symlink_to("msg_1.wav")
    os.mkfifo(folder.root / BOX / "msg_pipe.wav")
    with socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(folder.root)  # a socket's path is short
        unix.bind(f"{BOX}/msg_socket.wav")

        await folder.index.scan()

    assert await has(folder, "msg_1.wav", "msg_2.MP3")


async def test_what_is_no_wav_is_indexed_by_its_suffix(folder: Folder, pool: Pool) -> None:
    folder.leave("msg_1.mp3", b"ID3 whatever")
    folder.leave("msg_2.wav", b"")
    folder.leave("msg_3.wav", b"no RIFF at all")

    await folder.index.scan()

    rows = await pool.fetch("SELECT codec, duration, size FROM voicemail.recording ORDER BY path")
    assert [tuple(row) for row in rows] == [("mp3", None, 12), ("wav", None, 0), ("wav", None, 14)]


async def test_names_that_are_no_utf8_or_too_long_are_skipped_and_told_once(folder: Folder) -> None:
    folder.leave("msg_1.wav")
    folder.leave(os.fsdecode(b"msg_\xff\xfe.wav"))
    deep = folder.root
    for _ in range(9):
        deep = deep / ("d" * 250)
    deep.mkdir(parents=True)
    here = os.open(deep, os.O_RDONLY)
    os.close(os.open("msg_deep.wav", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)

    with capture_logs() as logs:
        await folder.index.scan()
        await folder.index.scan()

    assert await has(folder, "msg_1.wav")
    assert sorted(line["path"][-12:] for line in logs if line["event"] == "recording_skipped") == ["1/msg_??.wav", "msg_deep.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_folder_that_may_not_be_read_does_not_stop_the_scan(folder: Folder) -> None:
    folder.leave("msg_1.wav")
    (folder.root / "locked").mkdir(mode=0)

    with capture_logs() as logs:
        await folder.index.scan()

    assert await has(folder, "msg_1.wav")
    assert [line["path"] for line in logs if line["event"] == "recording_skipped"] == ["locked"]


async def test_one_bad_file_fails_alone(folder: Folder, pool: Pool) -> None:
    """A header that claims 4 thousand million samples a second, and a time that no column holds, hold up no other file."""
    folder.leave("msg_1.wav")
    header = REAL.read_bytes()[:24] + b"\xff\xff\xff\xff" + REAL.read_bytes()[28:]
    folder.leave("msg_2.wav", header)
    late = folder.leave("msg_3.wav")
    os.utime(late, (2**33, 2**33 + 2**30))  # 2**63 nanoseconds end in the year 2262; some file systems hold 2446
    folder.leave("msg_4.wav")

    count = await folder.index.scan()
    await asyncio.sleep(SETTLE)
    await folder.index.look_again()

    assert count.files == 4
    assert await has(folder, "msg_1.wav", "msg_2.wav", "msg_3.wav", "msg_4.wav")
    assert await pool.fetchval(
        "SELECT sample_rate IS NULL AND duration IS NULL FROM voicemail.recording WHERE path LIKE '%msg_2.wav'"
    )
    damaged = await pool.fetch("SELECT path, damage FROM voicemail.recording WHERE damage <> ''")
    assert [tuple(row) for row in damaged] == [(f"{BOX}/msg_2.wav", "it has no WAV header that can be true")]


async def test_a_damaged_file_is_told_once_and_not_read_again(folder: Folder, pool: Pool) -> None:
    folder.leave("msg_1.wav", b"RIFF\0\0\0\0WAVE")
    folder.leave("msg_2.wav", b"")

    with capture_logs() as logs:
        first, second = await folder.index.scan(), await folder.index.scan()
        await pool.execute("UPDATE voicemail.recording SET indexed_at = now() - interval '25 hours'")
        third = await folder.index.scan()

    assert (first.read, second.read, third.read) == (2, 0, 2)
    told = [(line["path"][-9:], line["reason"]) for line in logs if line["event"] == "recording_damaged"]
    assert sorted(told) == [("msg_1.wav", "it has no WAV header that can be true"), ("msg_2.wav", "it is empty")]


async def test_a_file_whose_disk_fails_is_indexed_as_damaged(folder: Folder, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_storage: RecordingStorage, key: str) -> OpenRecording:
        return OpenRecording(os.open("/proc/self/mem", os.O_RDONLY), key)  # the first page of a process gives EIO

    folder.leave("msg_1.wav")
    monkeypatch.setattr(RecordingStorage, "open", failing)

    await folder.index.scan()

    damage, digest = await pool.fetchrow("SELECT damage, sha256 FROM voicemail.recording")
    assert (damage, digest) == ("it cannot be read: Input/output error", None)


async def test_facts_that_the_index_refuses_hold_up_no_other_file(
    folder: Folder, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(file: BinaryIO, size: int) -> WavFacts | None:
        return WavFacts(1.0, "pcm_s16le", 2**32, 1) if size == 4 else wav_facts(file, size)

    monkeypatch.setattr("app.recordings.files.wav_facts", impossible)
    for number in range(5):
        folder.leave(f"msg_{number}.wav")
    folder.leave("msg_5.wav", b"RIFF")

    await folder.index.scan()

    assert await has(folder, *(f"msg_{number}.wav" for number in range(6)))
    assert await pool.fetchval("SELECT damage FROM voicemail.recording WHERE size = 4") == "its facts do not fit the index"
    assert (await folder.index.scan()).read == 0


@pytest.mark.parametrize("size", [2**30 + 1, 300 * 2**30, 8 * 2**40])
async def test_a_very_large_file_is_indexed_without_reading_it(folder: Folder, pool: Pool, size: int) -> None:
    path = folder.leave("msg_1.wav")
    try:
        os.truncate(path, size)
    except OSError:
        pytest.skip("the file system has no files of this size")
    os.utime(path, (1, 1))

    await folder.index.scan()

    assert tuple(await pool.fetchrow("SELECT size, sha256, damage FROM voicemail.recording")) == (size, None, "")
    assert (await folder.index.scan()).read == 0


async def test_hashing_ends_after_a_while(folder: Folder, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.recordings.files.LONGEST_HASHED", -1.0)
    folder.leave("msg_1.wav")

    await folder.index.scan()

    duration, digest = await pool.fetchrow("SELECT duration, sha256 FROM voicemail.recording")
    assert (duration, digest) == (10.4, None)
    assert (await folder.index.scan()).read == 0


async def test_a_file_removed_during_a_look_does_not_hide_the_rest_of_its_folder(folder: Folder) -> None:
    for number in range(10):
        folder.leave(f"msg_{number}.wav")
    order = os.listdir(folder.root / BOX)
    walk = files.walk(folder.index._storage, "", lambda *_: None)

    found = [next(walk).path]
    (folder.root / BOX / order[1]).unlink()
    found += [file.path for file in walk]

    assert [path.rpartition("/")[2] for path in found] == [order[0], *order[2:]]


async def test_a_link_inside_the_folder_is_not_followed_and_told_once(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "disk/201").mkdir(parents=True)
    (tmp_path / "disk/201/msg_2.wav").write_bytes(REAL.read_bytes())
    folder.leave("msg_1.wav")
    (folder.root / "default/branch.local").symlink_to(tmp_path / "disk")

    with capture_logs() as logs:
        await folder.index.look(["default/branch.local"])
        await folder.index.scan()

    assert await has(folder, "msg_1.wav")
    told = [line["path"] for line in logs if line["event"] == "recording_skipped" and "link" in line["reason"]]
    assert told == ["default/branch.local"]


async def test_a_new_folder_and_the_files_in_it_may_be_named_together(folder: Folder) -> None:
    for name in ("msg_1.wav", "msg_2.wav", "msg_3.wav"):
        folder.leave(name)

    found = await folder.index.look([BOX, f"{BOX}/msg_1.wav", "default"])

    assert len(found) == 3
    assert await has(folder, "msg_1.wav", "msg_2.wav", "msg_3.wav")


async def test_a_recordings_folder_that_is_itself_a_link_is_indexed_and_watched(folder: Folder, tmp_path: Path) -> None:
    folder.root.rmdir()
    (tmp_path / "disk").mkdir()
    folder.root.symlink_to(tmp_path / "disk")
    folder.leave("msg_1.wav")
    async with folder.watched():
        assert await has(folder, "msg_1.wav")
        folder.leave("msg_2.wav")
        await until(lambda: has(folder, "msg_1.wav", "msg_2.wav"))

        (tmp_path / "other disk" / BOX).mkdir(parents=True)
        (tmp_path / "other disk" / BOX / "msg_3.wav").write_bytes(REAL.read_bytes())
        (tmp_path / "new").symlink_to(tmp_path / "other disk")
        (tmp_path / "new").rename(folder.root)
        await until(lambda: has(folder, "msg_3.wav"), 15.0)


async def test_a_row_whose_recording_is_behind_a_link_says_so(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "disk/201").mkdir(parents=True)
    (tmp_path / "disk/201/msg_2.wav").write_bytes(REAL.read_bytes())
    (folder.root / "branch.local").symlink_to(tmp_path / "disk")

    with pytest.raises(NotFound, match="is behind a link"):
        folder.index._storage.open("branch.local/201/msg_2.wav")


async def test_a_file_that_did_not_change_is_not_read_again(folder: Folder) -> None:
    folder.leave("msg_1.wav")
    folder.leave("msg_2.wav")

    first = await folder.index.scan()
    folder.leave("msg_2.wav", b"another take")
    second = await folder.index.scan()

    assert (first.read, second.read) == (2, 1)
    assert (await folder.indexed())["msg_2.wav"] == len(b"another take")


async def test_a_file_that_is_still_growing_is_left_alone_until_it_is_done(folder: Folder) -> None:
    path = folder.leave("msg_1.wav", age=0)
    with path.open("ab") as file:
        for _ in range(8):
            file.write(bytes(1000))
            file.flush()
            await folder.index.scan()
            assert await folder.indexed() == {}
            await asyncio.sleep(SETTLE / 4)

    async def settled() -> bool:
        await folder.index.look_again()
        return await has(folder, "msg_1.wav")

    await until(settled)
    assert await folder.indexed() == {"msg_1.wav": 166646 + 8000}
    assert not folder.index.waiting


async def test_a_file_dated_in_the_future_settles_too(folder: Folder) -> None:
    folder.leave("msg_1.wav", age=-3600)
    await folder.index.scan()

    async def settled() -> bool:
        await folder.index.look_again()
        return await has(folder, "msg_1.wav")

    await until(settled)


async def test_a_row_means_that_its_file_is_complete(folder: Folder) -> None:
    folder.leave("msg_1.wav", age=0)

    await folder.index.add([f"{SWITCH}/{BOX}/msg_1.wav", "/etc/passwd", f"{SWITCH}/{BOX}/msg_gone.wav", "", f"{SWITCH}/../x"])

    assert await folder.indexed() == {"msg_1.wav": 166646}


async def test_a_link_that_leads_out_of_the_folder_is_not_read(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(REAL.read_bytes())
    folder.leave("msg_1.wav")
    (folder.root / BOX / "msg_out.wav").symlink_to(tmp_path / "secret.wav")

    await folder.index.add([f"{SWITCH}/{BOX}/msg_out.wav"])
    await folder.index.scan()

    assert await has(folder, "msg_1.wav")


async def test_changes_are_hinted_by_the_messages_paths_also_in_a_folder_that_is_new(folder: Folder) -> None:
    async with folder.watched():
        folder.leave("greeting_1.wav")
        folder.leave("msg_1.wav", age=0)
        new = folder.root / "default/lab.local/102"
        new.mkdir()
        (new / "msg_2.wav").write_bytes(REAL.read_bytes())

        await until(lambda: _true(folder.hinted == {f"{BOX}/msg_1.wav", "default/lab.local/102/msg_2.wav"}), 10.0)


async def test_a_removed_file_leaves_the_index_at_the_next_scan(folder: Folder) -> None:
    folder.leave("msg_1.wav")
    gone = folder.leave("msg_2.wav")
    await folder.index.scan()
    gone.unlink()

    with capture_logs() as logs:
        await folder.index.scan()

    assert await has(folder, "msg_1.wav")
    assert [line["first"] for line in logs if line["event"] == "recordings_removed"] == [f"{BOX}/msg_2.wav"]


async def test_a_disk_that_is_not_mounted_does_not_empty_the_index(folder: Folder, tmp_path: Path) -> None:
    folder.leave("msg_1.wav")
    await folder.index.scan()
    folder.root.rename(tmp_path / "disk")

    for _ in range(2):  # no folder, then the empty one that a disk is mounted on
        with pytest.raises(RecordingsFolderGone):
            await folder.index.scan()
        with pytest.raises(RecordingsFolderGone):
            await folder.index.look([f"{BOX}/msg_1.wav"])
        folder.root.mkdir(exist_ok=True)

    assert await has(folder, "msg_1.wav")


async def test_thousands_of_files_are_indexed_with_progress_in_the_log(folder: Folder) -> None:
    for number in range(2500):
        folder.leave(f"msg_{number}.wav", b"RIFF")

    with capture_logs() as logs:
        count = await folder.index.scan()

    scans = [line for line in logs if line["event"] == "recordings_scan"]
    assert (count.files, count.read) == (2500, 2500)
    assert [line["files"] for line in scans] == [1000, 2000, 2500]
    assert [line["done"] for line in scans] == [False, False, True]


async def test_a_new_recording_is_hinted_and_indexed(folder: Folder) -> None:
    async with folder.watched():
        folder.leave("msg_1.wav")

        await until(lambda: has(folder, "msg_1.wav"))

    assert folder.hints >= 1


async def test_a_growing_recording_is_hinted_again_and_again_and_indexed_when_done(folder: Folder) -> None:
    async with folder.watched():
        with folder.leave("msg_1.wav", age=0).open("ab") as file:
            for number in range(5):
                before = folder.hints
                file.write(bytes(100))
                file.flush()
                await until(lambda before=before: _true(folder.hints > before))
                assert await folder.indexed() == {}, number

        await until(lambda: has(folder, "msg_1.wav"))

    assert await folder.indexed() == {"msg_1.wav": 166646 + 500}


async def test_files_that_came_with_a_new_folder_are_found(folder: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "moved"
    (elsewhere / "deeper").mkdir(parents=True)
    for name in ("msg_1.wav", "deeper/msg_2.wav"):
        (elsewhere / name).write_bytes(b"RIFF")
        os.utime(elsewhere / name, (1, 1))
    async with folder.watched():
        elsewhere.rename(folder.root / "lab.local")

        await until(lambda: has(folder, "msg_1.wav", "msg_2.wav"))


async def test_a_removed_file_and_a_removed_folder_are_noticed(folder: Folder) -> None:
    folder.leave("msg_1.wav")
    folder.leave("msg_2.wav")
    (folder.root / "other.local").mkdir()
    shutil.copytree(folder.root / BOX, folder.root / "other.local/102")
    async with folder.watched():
        assert await folder.pool.fetchval("SELECT count(*) FROM voicemail.recording") == 4

        (folder.root / BOX / "msg_1.wav").unlink()
        (folder.root / "other.local").rename(folder.root.parent / "away")
        await until(lambda: has(folder, "msg_2.wav"))

    assert await folder.pool.fetchval("SELECT count(*) FROM voicemail.recording") == 1


async def test_a_folder_that_is_not_there_yet_is_waited_for(folder: Folder) -> None:
    folder.root.rmdir()
    watcher = RecordingWatcher(folder.index, folder.paths, folder.hint, look=0.05)
    with capture_logs() as logs:
        task = asyncio.create_task(watcher.run())
        await until(lambda: _true(any(line["event"] == "recordings_folder_gone" for line in logs)))
        folder.root.mkdir()
        folder.leave("msg_1.wav")
        await until(lambda: has(folder, "msg_1.wav"))
        # The file may be indexed by the kernel's event before the scan that ends with this line is over.
        await until(lambda: _true(any(line["event"] == "recordings_folder_watched_again" for line in logs)))
        task.cancel()
        await asyncio.wait([task])

    assert sum(line["event"] == "recordings_folder_gone" for line in logs) == 1


async def test_a_disk_that_comes_back_is_watched_again(folder: Folder, tmp_path: Path) -> None:
    folder.leave("msg_1.wav")
    with capture_logs() as logs:
        async with folder.watched():
            folder.root.rename(tmp_path / "disk")
            folder.root.mkdir()
            await until(lambda: _true(any(line["event"] == "recordings_folder_gone" for line in logs)))
            assert await has(folder, "msg_1.wav")

            folder.root.rmdir()
            (tmp_path / "disk").rename(folder.root)
            folder.leave("msg_2.wav")
            await until(lambda: has(folder, "msg_1.wav", "msg_2.wav"))
            folder.leave("msg_3.wav")
            await until(lambda: has(folder, "msg_1.wav", "msg_2.wav", "msg_3.wav"))


async def test_without_a_watch_the_folder_is_scanned_now_and_then(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_watch(*_: object, **__: object) -> None:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr("app.recordings.watcher.awatch", no_watch)
    with capture_logs() as logs:
        async with folder.watched(unwatched=0.2):
            folder.leave("msg_1.wav")
            await until(lambda: has(folder, "msg_1.wav"))
            (folder.root / BOX / "msg_1.wav").unlink()
            await until(lambda: has(folder))

    assert sum(line["event"] == "recordings_watch_failed" for line in logs) <= 1


async def test_a_database_that_is_away_is_waited_for(folder: Folder, pool: Pool) -> None:
    async with folder.watched():
        await pool.execute("ALTER TABLE voicemail.recording RENAME TO away")
        folder.leave("msg_1.wav")
        await asyncio.sleep(0.3)
        await pool.execute("ALTER TABLE voicemail.away RENAME TO recording")

        await until(lambda: has(folder, "msg_1.wav"))
