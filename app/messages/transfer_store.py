"""SQL over ``voicemail.transfer``: messages on their way to another mailbox. All times are the database's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.database.pool import Connection
from app.errors import UniqueViolated
from app.jobs.retries import Retries
from app.switch.tables.changes import WholeRow


class Kind(StrEnum):
    """What becomes of a message."""

    MOVE = "move"
    COPY = "copy"
    FORWARD = "forward"


class TransferState(StrEnum):
    """How far a transfer went. Each state is written before the next step begins, so any process can go on from it."""

    ASKED = "asked"
    PLACED = "placed"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message on its way to one mailbox."""

    id: UUID  # also the new message's id, the uuid of its row, and part of its recording's name
    message_id: UUID
    kind: Kind
    source_path: str  # the recording, as the switch names it
    whole: WholeRow  # the new row
    state: TransferState = TransferState.ASKED
    detail: str = ""
    tries: int = 0
    age: float = 0.0  # seconds since it was asked for


_ROW = "created_epoch, username, domain, cid_name, cid_number, file_path, message_len, read_flags, forwarded_by"
ASK = f"""
INSERT INTO voicemail.transfer (id, message_id, kind, source_path, {_ROW})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""  # noqa: S608 - constants of this module
# A try is counted before it is made, and nobody else makes one until its lease, or the pause that would follow it, has passed.
BEGIN = f"""
UPDATE voicemail.transfer
SET tries = tries + 1, next_try_at = now() + make_interval(
    secs => greatest($2::float8, least($3::float8 * power(2, least(tries, 30)), $4::float8)))
WHERE id = $1 AND state NOT IN ('done', 'failed') AND next_try_at <= now()
RETURNING id, message_id, kind, source_path, state, detail, tries, extract(epoch FROM now() - asked_at)::float8 AS age, {_ROW}
"""  # noqa: S608
STATE = "SELECT state, detail FROM voicemail.transfer WHERE id = $1"
ADVANCE = """
UPDATE voicemail.transfer SET state = $2, detail = $3, settled_at = CASE WHEN $2 IN ('done', 'failed') THEN now() END
WHERE id = $1 AND state NOT IN ('done', 'failed')
"""
POSTPONE = """
UPDATE voicemail.transfer SET detail = $2, next_try_at = now() + $3::interval WHERE id = $1 AND state NOT IN ('done', 'failed')
"""
# By the partial index transfer_due.
DUE = """
SELECT id, tries FROM voicemail.transfer
WHERE state NOT IN ('done', 'failed') AND next_try_at <= now() ORDER BY next_try_at LIMIT $1
"""
CAME = "SELECT EXISTS (SELECT FROM voicemail.message WHERE id = $1)"
AMONG = "SELECT file_path FROM voicemail.transfer WHERE file_path = ANY($1::bytea[])"


async def ask(connection: Connection, transfers: Sequence[Transfer]) -> bool:
    """Write down what is to be transferred, in the connection's transaction; False if a message is being moved already."""
    try:
        for one in transfers:
            whole = one.whole
            await connection.execute(
                ASK, one.id, one.message_id, str(one.kind), _bytes(one.source_path), whole.created_epoch, whole.username,
                whole.domain, _bytes(whole.caller_name), _bytes(whole.caller_number), _bytes(whole.file_path), whole.duration,
                _bytes(whole.read_flags), _bytes(whole.forwarded_by),
            )  # fmt: skip
    except UniqueViolated:
        return False
    return True


async def begin(connection: Connection, transfer_id: UUID, retries: Retries) -> Transfer | None:
    """Count a try and have a lease for it; None if it is settled, or not due yet."""
    row = await connection.fetchrow(BEGIN, transfer_id, retries.lease, retries.first, retries.longest)
    return row and _transfer(row)


async def state(connection: Connection, transfer_id: UUID) -> tuple[TransferState, str]:
    """The state of a transfer and its detail."""
    row = await connection.fetchrow(STATE, transfer_id)
    return (TransferState(row[0]), row[1]) if row else (TransferState.FAILED, "")


async def advance(connection: Connection, transfer_id: UUID, state: TransferState, detail: str = "") -> None:
    """Note the state of the transfer."""
    await connection.execute(ADVANCE, transfer_id, str(state), detail)


async def postpone(connection: Connection, transfer_id: UUID, detail: str, delay: float) -> None:
    """Try again in ``delay`` seconds."""
    await connection.execute(POSTPONE, transfer_id, detail, timedelta(seconds=delay))


async def due(connection: Connection, limit: int) -> list[tuple[UUID, int]]:
    """Transfers to be tried now, each with how often that was done."""
    return [(UUID(int=row["id"].int), row["tries"]) for row in await connection.fetch(DUE, limit)]


async def came(connection: Connection, message_id: UUID) -> bool:
    """Whether a message with this id was ever seen."""
    return bool(await connection.fetchval(CAME, message_id))


async def among(connection: Connection, file_paths: Sequence[str]) -> set[str]:
    """Those of the recordings, as the switch names them, that this service put there: their messages are news, however old."""
    found = await connection.fetch(AMONG, [_bytes(path) for path in file_paths])
    return {_text(row[0]) for row in found}


def _bytes(text: str | None) -> bytes:
    return (text or "").encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return bytes(value).decode("utf-8", "surrogateescape")


def _transfer(row: Any) -> Transfer:
    id_ = UUID(int=row["id"].int)
    whole = WholeRow(
        created_epoch=row["created_epoch"], read_epoch=0, username=row["username"], domain=row["domain"], uuid=str(id_),
        caller_name=_text(row["cid_name"]), caller_number=_text(row["cid_number"]), in_folder="inbox",
        file_path=_text(row["file_path"]), duration=row["message_len"], flags="", read_flags=_text(row["read_flags"]),
        forwarded_by=_text(row["forwarded_by"]),
    )  # fmt: skip
    return Transfer(
        id=id_, message_id=UUID(int=row["message_id"].int), kind=Kind(row["kind"]), source_path=_text(row["source_path"]),
        whole=whole, state=TransferState(row["state"]), detail=row["detail"], tries=row["tries"], age=row["age"],
    )  # fmt: skip
