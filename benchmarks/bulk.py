"""Many messages changed by one call. The recordings are real files, and PostgreSQL syncs its commits."""

import asyncio
import time
from pathlib import Path
from uuid import uuid4

from benchmarks.measures import SAMPLE, say
from benchmarks.site import DOMAIN, Site

MESSAGES = 1000
EXTENSION = "20001"


async def deletions(site: Site) -> float:
    """1,000 messages of a mailbox to the trash. Returns the seconds until the answer."""
    ids = await _leave(site)
    began = time.monotonic()
    async with site.client.post("/v1/voicemail/message/bulk", json={"action": "delete", "ids": ids}) as answer:
        done = [one["status"] for one in (await answer.json())["data"]].count(200)
    took = time.monotonic() - began
    say(f"bulk deletion: {done:,} of {MESSAGES:,} messages in the trash after {took:.2f} s (aim: 5 s)")
    return took if done == MESSAGES else float("inf")


async def _leave(site: Site) -> list[str]:
    """Messages of an hour ago that the service has recorded; their ids."""
    folder, content = Path(site.switch.recordings) / DOMAIN / EXTENSION, SAMPLE.read_bytes()
    folder.mkdir(parents=True)
    ids = [str(uuid4()) for _ in range(MESSAGES)]
    for id_ in ids:
        (folder / f"msg_{id_}.wav").write_bytes(content)
    made = int(time.time()) - 3600
    rows = [
        (made + n, 0, EXTENSION, DOMAIN, id_, "Alice", "200", "inbox", str(folder / f"msg_{id_}.wav"), 7, "", "B_NORMAL", "")
        for n, id_ in enumerate(ids)
    ]
    async with site.database() as connection:
        await connection.copy_records_to_table("voicemail_msgs", records=rows)
        while await connection.fetchval("SELECT count(*) FROM voicemail.message WHERE username = $1", EXTENSION) < MESSAGES:
            await asyncio.sleep(0.2)
    return ids
