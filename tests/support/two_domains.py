"""A second domain on one switch, with the same extension and even the same call in both."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from app.database.pool import Pool
from app.sandbox.message_actions import LeftMessage, audio_seconds
from app.sandbox.switch import StandInSwitch
from app.sandbox.tables import NewMessage

OTHER = "elsewhere.example"
# What a second domain sets for itself: St. John's is 2:30 h behind UTC in summer.
SETTINGS = {
    "time_zone": "America/St_Johns",
    "mail_from": "post@elsewhere.example",
    "mail_from_name": "Büro, Nord",
    "reply_to": "answers@elsewhere.example",
}
SAMPLE = next((Path(__file__).parents[2] / "app/sandbox/recordings").glob("*.wav"))


async def host(target: "Pool | asyncpg.Connection", domain: str = OTHER, **settings: str | None) -> None:
    """Have the installation host a domain with these settings."""
    names = ("time_zone", "mail_from", "mail_from_name", "reply_to")
    values = [settings.get(name) for name in names]
    await target.execute(
        "INSERT INTO voicemail.domain (name, time_zone, mail_from, mail_from_name, reply_to) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (name) DO UPDATE SET time_zone = $2, mail_from = $3, mail_from_name = $4, reply_to = $5",
        domain,
        *values,
    )


async def put_mailbox(target: "Pool | asyncpg.Connection", extension: str, domain: str = OTHER, **fields: Any) -> None:
    """A mailbox, written as the API would."""
    row: dict[str, Any] = {
        "domain": domain, "extension": extension, "pin_encrypted": b"sealed", "mail_to": "far@example.com",
        "local_after_email": True, "enabled": True,
    } | fields  # fmt: skip
    names, places = ", ".join(row), ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await target.execute(f"INSERT INTO voicemail.mailbox ({names}) VALUES ({places})", *row.values())


async def call(
    switch: StandInSwitch, extension: str, domain: str, *, uuid: str | None = None, created_epoch: int | None = None
) -> LeftMessage:
    """What a call does in a domain of the stand-in: the recording, the event, the row and MWI."""
    path = switch.recordings / domain / extension / f"msg_{uuid4()}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data := SAMPLE.read_bytes())
    message = NewMessage(
        created_epoch or int(time.time()), extension, domain, uuid or str(uuid4()), "Alice", "0891234567", str(path),
        audio_seconds(data),
    )  # fmt: skip
    return LeftMessage(extension, message.uuid, path, await switch._mailboxes.store(message))
