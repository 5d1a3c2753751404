"""The trash folder and its purge: row and recording go together, and only when their time is over."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app.access.grant import Reach
from app.database.pool import Pool
from app.errors import NotFound, Unavailable
from app.messages import trash_store
from app.messages.trash_purge import TrashPurge
from app.recordings.files import walk
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingMissing, RecordingRefused, RecordingStorage
from app.recordings.trash import FOLDER, TrashFolder
from app.switch.tables.changes import WholeRow
from tests.support.killed_trash import CONTENT, TrashProcess
from tests.support.mail_process import row_of
from tests.support.switch_rows import DOMAIN, insert, switch_row

EVERYWHERE = Reach(None)


@pytest.fixture
async def process(database: str, pool: Pool, tmp_path: Path) -> AsyncIterator[TrashProcess]:
    process = TrashProcess(database, pool, tmp_path, links=True)
    await process.registry.begin()
    await process.registry.finish_baseline()
    yield process
    await process.claims.close()


async def deleted(process: TrashProcess, *, days: float = 0.0, domain: str = DOMAIN) -> tuple[Path, UUID]:
    """A message that was moved to the trash so many days ago: where it was, and its id."""
    path = process.storage.paths.root / domain / "101" / f"msg_{uuid4()}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    row = switch_row(file_path=str(path), domain=domain)
    await insert(process.pool, row)
    (message,) = await process.registry.record([row_of(row)])
    await process.delete(message.id)
    await process.pool.execute(
        "UPDATE voicemail.trash SET deleted_at = now() - make_interval(secs => $2) WHERE message_id = $1",
        message.id,
        days * 86400,
    )
    return path, message.id


def recordings(process: TrashProcess) -> list[Path]:
    """What is in the trash folder."""
    return sorted((process.storage.paths.root / FOLDER).iterdir())


def purge(process: TrashProcess, *, stray: float = 3600.0) -> TrashPurge:
    """The purge of an installation that keeps messages for 30 days."""
    return TrashPurge(process.pool, process.trash, process.folder, days=30, stray=stray)


async def ids(process: TrashProcess) -> set[str]:
    """The messages in the trash."""
    lines, total = await process.trash.page(EVERYWHERE, limit=100, offset=0)
    assert total == len(lines)
    return {line.id for line in lines}


async def test_a_message_goes_for_good_when_its_days_are_over(process: TrashProcess) -> None:
    _, old = await deleted(process, days=30.1)
    _, young = await deleted(process, days=29.9)

    await purge(process).step()

    assert await ids(process) == {str(young)}
    assert len(recordings(process)) == 1
    with pytest.raises(NotFound):
        await process.trash.restore(old, [])
    await process.trash.restore(young, [])


async def test_a_domain_may_say_its_own_days(process: TrashProcess) -> None:
    _, short = await deleted(process, days=3)
    _, usual = await deleted(process, days=3, domain="elsewhere.example")
    await process.pool.execute("UPDATE voicemail.domain SET trash_days = 2 WHERE name = $1", DOMAIN)

    await purge(process).step()

    assert await ids(process) == {str(usual)}
    await process.pool.execute("UPDATE voicemail.domain SET trash_days = NULL")
    assert str(short) not in await ids(process)


async def test_a_recording_that_cannot_be_removed_keeps_its_message(
    process: TrashProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, old = await deleted(process, days=31)

    def refuse(_name: str) -> bool:
        raise PermissionError(13, "not now")

    with monkeypatch.context() as patched:
        patched.setattr(process.folder, "remove", refuse)
        with pytest.raises(Unavailable):
            await purge(process).step()
    kept = await ids(process)
    await purge(process).step()

    assert kept == {str(old)}
    assert (await ids(process), recordings(process)) == (set(), [])


async def test_recordings_that_no_message_has_are_cleared_after_a_while(process: TrashProcess) -> None:
    _, kept = await deleted(process)
    stray = process.storage.paths.root / FOLDER / f"{uuid4()}.wav"
    stray.write_bytes(b"left over")

    await purge(process).step()
    at_first = stray.exists()
    await asyncio.sleep(0.05)
    await purge(process, stray=0.0).step()

    assert (at_first, stray.exists()) == (True, False)
    assert await ids(process) == {str(kept)}
    assert len(recordings(process)) == 1


async def test_what_was_being_restored_is_finished_and_never_purged(process: TrashProcess) -> None:
    path, old = await deleted(process, days=31)
    await process.pool.execute("UPDATE voicemail.trash SET state = 'restoring'")

    await purge(process).step()

    assert path.read_bytes() == CONTENT
    assert await process.pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE uuid = $1", str(old)) == 1
    assert (await ids(process), recordings(process)) == (set(), [])


async def test_a_phone_that_marks_the_message_meanwhile_is_believed(
    process: TrashProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put back is what the phone saw last, not what was copied first."""
    original, calls = process.removal._begin_deleting, 0

    async def listened(task: object) -> object:
        nonlocal calls
        calls += 1
        await process.pool.execute("UPDATE voicemail_msgs SET read_epoch = 1700000000, flags = 'save'")
        return await original(task)  # type: ignore[arg-type]

    monkeypatch.setattr(process.removal, "_begin_deleting", listened)
    _, id_ = await deleted(process)
    await process.trash.restore(id_, [])

    row = await process.pool.fetchrow("SELECT read_epoch, flags FROM voicemail_msgs")
    assert calls == 1
    assert tuple(row) == (1700000000, "save")


async def test_texts_that_are_no_utf_8_come_back_as_they_were(process: TrashProcess) -> None:
    whole = WholeRow(1, None, "101", DOMAIN, "u", "\udcff caller", None, "inbox", "/x.wav", 3, "", "B_NORMAL", None)

    assert trash_store._whole(trash_store._bytes(whole)) == whole


@pytest.mark.parametrize("links", [True, False])
def test_a_recording_is_kept_and_put_back_as_it_was(tmp_path: Path, links: bool) -> None:
    storage = RecordingStorage(RecordingPaths(tmp_path, str(tmp_path)), refuse_hard_links=not links)
    folder, path = TrashFolder(storage, links=links), tmp_path / DOMAIN / "101" / "msg_1.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    os.utime(path, (1_700_000_000, 1_700_000_000))

    assert folder.keep(f"{DOMAIN}/101/msg_1.wav", "one.wav") == len(CONTENT)
    assert folder.keep(f"{DOMAIN}/101/msg_1.wav", "one.wav") == len(CONTENT)
    kept = tmp_path / FOLDER / "one.wav"
    assert (kept.stat().st_nlink == 2) is links
    assert kept.stat().st_mtime == 1_700_000_000
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    assert [file.path for file in walk(storage, "", lambda *_: None)] == [f"{DOMAIN}/101/msg_1.wav"]
    path.unlink()
    path.parent.rmdir()

    assert folder.put_back("one.wav", f"{DOMAIN}/101/msg_1.wav")
    assert folder.put_back("one.wav", f"{DOMAIN}/101/msg_1.wav")

    assert (path.read_bytes(), path.stat().st_mtime, kept.exists()) == (CONTENT, 1_700_000_000, False)
    with pytest.raises(RecordingMissing):
        folder.put_back("two.wav", f"{DOMAIN}/101/msg_2.wav")


def test_a_recording_is_put_back_onto_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = TrashFolder(RecordingStorage(RecordingPaths(tmp_path, str(tmp_path)))), tmp_path / "101/msg_1.wav"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    rename = os.rename

    def within_a_disk(*args: str, src_dir_fd: int, dst_dir_fd: int) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, "another disk")
        rename(*args, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def no_link(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(os, "rename", within_a_disk)
    folder.keep("101/msg_1.wav", "one.wav")
    path.unlink()

    assert folder.put_back("one.wav", "101/msg_1.wav")
    assert folder.put_back("one.wav", "101/msg_1.wav")

    assert [file.name for file in path.parent.iterdir()] == ["msg_1.wav"]
    assert path.read_bytes() == (tmp_path / FOLDER / "one.wav").read_bytes() == CONTENT


def test_a_place_that_another_recording_has_is_not_taken(tmp_path: Path) -> None:
    folder = TrashFolder(RecordingStorage(RecordingPaths(tmp_path, str(tmp_path))))
    (tmp_path / "msg_1.wav").write_bytes(CONTENT)
    folder.keep("msg_1.wav", "one.wav")
    (tmp_path / "msg_1.wav").unlink()
    (tmp_path / "msg_1.wav").write_bytes(b"another")

    assert not folder.put_back("one.wav", "msg_1.wav")
    (tmp_path / "msg_1.wav").unlink()
    (tmp_path / "msg_1.wav").symlink_to("/etc/passwd")
    assert not folder.put_back("one.wav", "msg_1.wav")

    assert (tmp_path / FOLDER / "one.wav").read_bytes() == CONTENT


def test_what_is_behind_a_link_is_not_kept(tmp_path: Path) -> None:
    folder = TrashFolder(RecordingStorage(RecordingPaths(tmp_path / "in", str(tmp_path / "in"))))
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in/msg_1.wav").symlink_to(tmp_path / "secret")

    with pytest.raises(RecordingRefused):
        folder.keep("msg_1.wav", "one.wav")


def test_a_link_in_place_of_the_trash_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / FOLDER).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/msg_1.wav").write_bytes(CONTENT)
    folder = TrashFolder(RecordingStorage(RecordingPaths(tmp_path / "in", str(tmp_path / "in"))))

    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        folder.keep("msg_1.wav", "one.wav")

    assert list((tmp_path / "elsewhere").iterdir()) == []
