"""A transfer that another process goes on with: what a phone did meanwhile is not undone."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.database.pool import Pool
from app.errors import Conflict, NotFound
from app.messages import transfer_store
from app.messages.model import Message
from app.messages.transfer_store import Kind, TransferState
from app.switch.tables import changes
from tests.support.killed_transfer import CONTENT, TARGET, TransferProcess
from tests.support.mail_process import row_of
from tests.support.switch_rows import DOMAIN, insert, switch_row


@pytest.fixture
def process(database: str, pool: Pool, tmp_path: Path) -> TransferProcess:
    return TransferProcess(database, pool, tmp_path, links=True)


async def leave(process: TransferProcess, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / DOMAIN / "101" / f"msg_{uuid4()}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    row = switch_row(uuid=str(uuid4()), file_path=str(path))
    await insert(process.pool, row)
    await process.registry.record([row_of(row)])
    return row


async def begun(process: TransferProcess, row: dict[str, Any], kind: Kind) -> transfer_store.Transfer:
    """A transfer that is written down, and not begun."""
    planned = await process.transfers.plan(Message(UUID(row["uuid"]), row_of(row)), kind, TARGET)
    async with process.pool.acquire() as connection, connection.transaction():
        await process.transfers.ask(connection, [planned])
    return planned


async def test_a_message_that_a_phone_deleted_in_the_target_does_not_come_again(
    process: TransferProcess, pool: Pool, tmp_path: Path
) -> None:
    planned = await begun(process, await leave(process, tmp_path), Kind.COPY)
    # Another process placed the file and inserted the row, then it died; a phone deleted both.
    async with pool.acquire() as connection:
        await transfer_store.advance(connection, planned.id, TransferState.PLACED)
        (Path(planned.whole.file_path or "")).parent.mkdir(parents=True)

    moved = await process.transfers.finish(planned)

    assert moved.id == planned.id
    assert await pool.fetchval("SELECT count(*) FROM voicemail_msgs WHERE username = '102'") == 0


async def test_a_row_that_is_there_already_is_not_inserted_twice(process: TransferProcess, pool: Pool, tmp_path: Path) -> None:
    planned = await begun(process, await leave(process, tmp_path), Kind.MOVE)
    path = Path(planned.whole.file_path or "")
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    async with pool.acquire() as connection:
        await transfer_store.advance(connection, planned.id, TransferState.PLACED)
        await changes.put_back(connection, planned.whole)

    await process.transfers.finish(planned)
    await process.go_on()

    found = await pool.fetch("SELECT username, uuid FROM voicemail_msgs")
    assert [tuple(row) for row in found] == [("102", str(planned.id))]


async def test_of_two_moves_of_one_message_only_one_is_taken(process: TransferProcess, pool: Pool, tmp_path: Path) -> None:
    row = await leave(process, tmp_path)
    await begun(process, row, Kind.MOVE)

    with pytest.raises(Conflict):
        await begun(process, row, Kind.MOVE)

    assert await pool.fetchval("SELECT count(*) FROM voicemail.transfer") == 1


async def test_a_message_that_went_before_it_was_begun_fails_and_leaves_nothing(
    process: TransferProcess, pool: Pool, tmp_path: Path
) -> None:
    row = await leave(process, tmp_path)
    planned = await begun(process, row, Kind.FORWARD)
    await pool.execute("DELETE FROM voicemail_msgs")
    Path(row["file_path"]).unlink()

    with pytest.raises(Conflict):
        await process.transfers.finish(planned)
    with pytest.raises((Conflict, NotFound)):
        await process.transfers.plan(Message(UUID(row["uuid"]), row_of(row)), Kind.COPY, TARGET)

    assert await pool.fetchval("SELECT count(*) FROM voicemail_msgs") == 0
    assert not Path(planned.whole.file_path or "").exists()
