"""Messages that are moved, copied, forwarded and deleted in bulk, on the stand-in and on a real switch: counts of both sides."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg

from tests.e2e.test_message_actions import rows
from tests.support.pbx import DOMAIN, Site
from tests.support.plain_client import PlainClient


async def act(site: Site, path: str, body: Any) -> dict[str, Any]:
    """The answer of a POST below /v1/voicemail/message."""
    async with site.client.post(f"/v1/voicemail/message/{path}", json=body) as answer:
        content: dict[str, Any] = await answer.json()
        assert answer.status == 200, content
        return content


async def counts(phone: PlainClient, extension: str) -> str:
    """new:saved:urgent new:urgent saved, as the switch counts."""
    return await phone.api(f"vm_boxcount {extension}@{DOMAIN}|all")


async def told(phone: PlainClient, extension: str) -> str:
    """What the phones of a mailbox were told last, when it has been quiet for a moment."""
    await asyncio.sleep(1)
    events = [event for event in phone.events if f"{extension}@{DOMAIN}" in event.headers.get("MWI-Message-Account", "")]
    return str(events[-1]["MWI-Voice-Message"]).split()[0] if events else ""


async def test_a_message_is_moved_copied_forwarded_and_deleted_where_it_is_meant(site: Site) -> None:
    for extension in ("101", "102"):
        await site.create(extension, mail_to="")
    left = await site.switch.leave_message("101", caller_name="Alice Nguyễn")
    database = await asyncpg.connect(site.dsn)
    await site.until(f"/v1/voicemail/message/{left.uuid}", recording="ready", extension="101")
    (row,) = await rows(database, "101")
    audio = left.path.read_bytes()

    async with await PlainClient.connect(site.switch.port, site.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        forwarded = (await act(site, f"{left.uuid}/forward", {"to": ["102"]}))["data"][0]["id"]
        after_forward = (await counts(phone, "101"), await counts(phone, "102"), await told(phone, "102"))
        (new,) = await rows(database, "102")
        moved = (await act(site, f"{left.uuid}/move", {"to": ["102"]}))["data"][0]["id"]
        after_move = (await counts(phone, "101"), await counts(phone, "102"), await told(phone, "101"), await told(phone, "102"))
        both = await rows(database, "102")
        listed = await phone.api(f"vm_list 102@{DOMAIN} text {moved}")
        await act(site, "bulk", {"action": "delete", "ids": [forwarded, moved]})
        after_delete = (await counts(phone, "102"), await told(phone, "102"))
        await act(site, "bulk", {"action": "restore", "ids": [forwarded, moved]})
        after_restore = (await counts(phone, "102"), await told(phone, "102"))

    assert after_forward == ("1:0:0:0", "1:0:0:0", "1/0")
    assert new == row | {
        "username": "102", "uuid": forwarded, "file_path": new["file_path"], "forwarded_by": "101", "read_epoch": 0,
    }  # fmt: skip
    assert after_move == ("0:0:0:0", "2:0:0:0", "0/0", "2/0")
    assert sorted(one["uuid"] for one in both) == sorted([forwarded, moved])
    assert all(Path(one["file_path"]).read_bytes() == audio for one in both)
    assert len({one["file_path"] for one in both}) == 2
    assert moved in listed
    assert after_delete == ("0:0:0:0", "0/0")
    assert after_restore == ("2:0:0:0", "2/0")
    assert await rows(database, "102") == both
    await database.close()
