"""What is done to a message by the API, on the stand-in and on a real switch: exactly one row, and MWI that says so."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg

from app.sandbox.message_actions import LeftMessage
from tests.support.pbx import DOMAIN, Site
from tests.support.plain_client import PlainClient


async def act(site: Site, method: str, path: str, body: Any = None) -> int:
    """The status of a call below /v1/voicemail/message."""
    async with site.client.request(method, f"/v1/voicemail/message/{path}", json=body) as answer:
        return answer.status


async def rows(database: asyncpg.Connection, extension: str) -> list[dict[str, Any]]:
    """What the switch has for an extension."""
    found = await database.fetch("SELECT * FROM voicemail_msgs WHERE username = $1 ORDER BY file_path", extension)
    return [dict(row) for row in found]


async def put_twin(database: asyncpg.Connection, left: LeftMessage, extension: str) -> list[dict[str, Any]]:
    """As a carbon copy does: the same call in another mailbox, with a file of its own."""
    path = left.path.with_name("msg_twin.wav")
    path.write_bytes(left.path.read_bytes())
    await database.execute(
        "INSERT INTO voicemail_msgs SELECT created_epoch, read_epoch, $1, domain, uuid, cid_name, cid_number, in_folder, $2,"
        " message_len, flags, read_flags, forwarded_by FROM voicemail_msgs WHERE file_path = $3",
        extension, str(path), str(left.path),
    )  # fmt: skip
    return await rows(database, extension)


async def counts(phone: PlainClient) -> str:
    """new:saved:urgent new:urgent saved, as the switch counts."""
    return await phone.api(f"vm_boxcount 101@{DOMAIN}|all")


async def told(phone: PlainClient, wanted: str) -> bool:
    """Whether the phones of 101 are told this number of new and saved messages; the switch sends events of its own too."""

    def last() -> str:
        events = [event for event in phone.events if f"101@{DOMAIN}" in event.headers.get("MWI-Message-Account", "")]
        return str(events[-1]["MWI-Voice-Message"]).split()[0] if events else ""

    await phone.until(lambda _: last() == wanted)
    await asyncio.sleep(0.3)
    return last() == wanted


async def test_marks_the_trash_and_the_way_back_touch_one_row_while_a_phone_is_in_the_mailbox(site: Site) -> None:
    await site.create("101", mail_to="")
    await site.create("102", mail_to="")
    left = await site.switch.leave_message("101", caller_name="Alice Nguyễn")
    database = await asyncpg.connect(site.dsn)
    twin = await put_twin(database, left, "102")
    (row,) = await rows(database, "101")
    audio = left.path.read_bytes()
    path = await site.until(f"/v1/voicemail/message/{left.uuid}", recording="ready", extension="101")

    async with await PlainClient.connect(site.switch.port, site.switch.password) as phone:
        await phone.command("event plain MESSAGE_WAITING")
        session = await phone_session(site, phone)
        assert await act(site, "PATCH", left.uuid, {"read": True, "saved": True}) == 200
        (marked,) = await rows(database, "101")
        marks = (await counts(phone), await told(phone, "0/1"))
        assert await act(site, "PATCH", left.uuid, {"read": False, "saved": False}) == 200
        unmarked = (await rows(database, "101"), await counts(phone), await told(phone, "1/0"))
        assert await act(site, "DELETE", left.uuid) == 200
        deleted = (await rows(database, "101"), await counts(phone), await told(phone, "0/0"))
        trashed = (await site.get("/v1/voicemail/message?trash=true"))["data"]
        assert await act(site, "POST", f"{left.uuid}/restore") == 200
        restored = (await rows(database, "101"), await counts(phone), await told(phone, "1/0"))
        if session:
            assert await phone.api(f"uuid_exists {session}") == "true", "the phone was in the mailbox all the time"
            await phone.api(f"uuid_kill {session}")

    assert marked == row | {"read_epoch": marked["read_epoch"], "flags": "save"}
    assert marks == ("0:1:0:0", True)
    assert unmarked == ([row], "1:0:0:0", True)
    assert deleted == ([], "0:0:0:0", True)
    assert [(message["id"], message["caller_id_name"]) for message in trashed] == [(left.uuid, "Alice Nguyễn")]
    assert restored == ([row], "1:0:0:0", True)
    assert await rows(database, "102") == twin
    assert left.path.read_bytes() == audio
    assert Path(twin[0]["file_path"]).read_bytes() == audio
    assert await site.get(f"/v1/voicemail/message/{left.uuid}") == path
    await database.close()


async def phone_session(site: Site, phone: PlainClient) -> str:
    """Somebody listens to the menu of 101 on a real switch; ``""`` on the stand-in, which has no calls."""
    if "true" not in await phone.api("module_exists mod_loopback"):
        return ""
    reply = await phone.api(
        f"originate {{voicemail_authorized=true}}loopback/app=playback:silence_stream://60000 '&voicemail(check auth default {DOMAIN} 101)'"
    )
    assert reply.startswith("+OK "), reply
    await asyncio.sleep(0.5)
    return reply.removeprefix("+OK ").strip()
