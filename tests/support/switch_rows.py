"""Rows of voicemail_msgs as mod_voicemail writes them, for tests."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from app.database.pool import Pool

DOMAIN = "lab.local"
ROOT = "/var/lib/freeswitch/voicemail/default"
COLUMNS = (
    "created_epoch", "read_epoch", "username", "domain", "uuid", "cid_name", "cid_number",
    "in_folder", "file_path", "message_len", "flags", "read_flags", "forwarded_by",
)  # fmt: skip


def switch_row(**fields: Any) -> dict[str, Any]:
    """The row of a message just left for 101, with these fields otherwise."""
    username = fields.get("username", "101")
    row: dict[str, Any] = {
        "created_epoch": int(time.time()),
        "read_epoch": 0,
        "username": "101",
        "domain": DOMAIN,
        "uuid": str(uuid4()),
        "cid_name": "Alice",
        "cid_number": "0891234567",
        "in_folder": "inbox",
        "file_path": f"{ROOT}/{DOMAIN}/{username}/msg_{uuid4()}.wav",
        "message_len": 7,
        "flags": "",
        "read_flags": "B_NORMAL",
        "forwarded_by": "",
    }
    return row | fields


async def insert(pool: Pool, *rows: dict[str, Any]) -> None:
    """Insert rows as the switch does."""
    await insert_all(pool, rows)


async def insert_all(pool: Pool, rows: Sequence[dict[str, Any]]) -> None:
    """Insert many rows at once."""
    async with pool.acquire() as connection:
        await connection.copy_records_to_table(
            "voicemail_msgs", records=[tuple(row[name] for name in COLUMNS) for row in rows], columns=COLUMNS
        )
