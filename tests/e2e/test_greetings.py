"""What callers hear after a greeting was uploaded, and what becomes of a message that is left by the API, on both switches."""

import asyncio
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import asyncpg

from app.sandbox.switch import StandInSwitch
from tests.support.pbx import DOMAIN, PATIENCE, Site
from tests.support.plain_client import PlainClient
from tests.support.tones import encoded, seconds_of, tone

FIRST, SECOND = 1500, 2100  # prompts of the lab are under 800 Hz, and the beep is 1000 Hz
FORGED = "x %0AVM-User: 102 'q\" Nguyễn"


async def heard(site: Site, extension: str) -> dict[int, float]:
    """Call a mailbox and listen: how many seconds of each tone the caller hears before and beside the beep."""
    if isinstance(site.switch, StandInSwitch):
        path = await site.switch.greeting(extension)
        return {hertz: seconds_of(path, hertz) if path else 0.0 for hertz in (FIRST, SECOND)}
    path = site.folder / "heard.wav"
    path.unlink(missing_ok=True)
    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        call = await client.api(
            f"originate {{skip_instructions=true}}loopback/app=record:{path} '&voicemail(default {DOMAIN} {extension})'"
        )
        assert call.startswith("+OK "), call
        await asyncio.sleep(3.0)
        await client.api(f"uuid_kill {call.removeprefix('+OK ').strip()}")
        async with asyncio.timeout(PATIENCE):
            while "0 total" not in await client.api("show channels"):
                await asyncio.sleep(0.1)
    return {hertz: seconds_of(path, hertz) for hertz in (FIRST, SECOND)}


async def put(site: Site, path: str, data: bytes, kind: str = "audio/wav") -> None:
    """Upload a greeting."""
    async with site.client.put(f"/v1/voicemail/101/greeting/{path}", data=data, headers={"Content-Type": kind}) as answer:
        assert answer.status == 200, await answer.text()


async def change(site: Site, method: str, path: str) -> None:
    """Another call about greetings."""
    async with site.client.request(method, f"/v1/voicemail/101/greeting{path}") as answer:
        assert answer.status == 200, await answer.text()


async def test_callers_hear_the_greeting_that_is_active(site: Site) -> None:
    await site.create("101")
    await put(site, "1?activate=true", encoded(tone(FIRST, 1.5, rate=44_100, channels=2), "MP3", "MPEG_LAYER_III"), "audio/mpeg")
    await put(site, "2", tone(SECOND, 1.5))

    first = await heard(site, "101")
    await change(site, "POST", "/2/activate")
    second = await heard(site, "101")
    await change(site, "DELETE", "/2")
    default = await heard(site, "101")
    await put(site, "name", encoded(tone(FIRST, 1.5, rate=48_000), "OGG", "OPUS"), "audio/ogg")
    name = await heard(site, "101")

    assert first[FIRST] >= 1.2
    assert first[SECOND] == 0
    assert second[SECOND] >= 1.2
    assert second[FIRST] == 0
    assert default == {FIRST: 0, SECOND: 0}
    assert name[FIRST] >= 1.2


async def test_a_greeting_changes_neither_the_pin_nor_who_may_call(site: Site) -> None:
    await site.create("101", password="4711")
    await put(site, "1?activate=true", tone(FIRST))

    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        logins = [await client.api(f"vm_fsdb_auth_login default {DOMAIN} 101 {pin}") for pin in ("4711", "0000")]
        chosen = await client.api(f"vm_prefs 101@{DOMAIN}|greeting_path")

    assert [login.startswith("-OK") for login in logins] == [True, False]
    assert chosen == str(site.switch.recordings / DOMAIN / "101" / "greeting_1.wav")
    async with site.client.patch("/v1/voicemail/101", json={"password": "5822"}) as answer:
        assert answer.status == 200
    async with await PlainClient.connect(site.switch.port, site.switch.password) as client, asyncio.timeout(PATIENCE):
        for pin, opens in (("5822", True), ("4711", False)):
            while (await client.api(f"vm_fsdb_auth_login default {DOMAIN} 101 {pin}")).startswith("-OK") is not opens:
                await asyncio.sleep(0.1)


async def test_a_message_left_by_the_api_is_one_like_any_other(site: Site) -> None:
    await site.create("101")
    async with await PlainClient.connect(site.switch.port, site.switch.password) as client:
        await client.command("event plain MESSAGE_WAITING CUSTOM vm::maintenance")
        path = f"/v1/voicemail/101/message?caller_id_name={quote(FORGED)}&caller_id_number=0891234567"
        async with site.client.post(path, data=tone(FIRST, 2.4), headers={"Content-Type": "audio/wav"}) as answer:
            assert answer.status == 201, await answer.text()
            message = await answer.json()
        event = await client.event("leave-message", VM_User="101", VM_Domain=DOMAIN)
        waiting = await client.event("MESSAGE_WAITING", MWI_Message_Account=f"101@{DOMAIN}")
        counted = await client.api(f"vm_boxcount 101@{DOMAIN}|all")
        listed = await client.api(f"vm_list 101@{DOMAIN}")

    assert message["caller_id_name"] == FORGED
    assert event["VM-UUID"] == message["id"]
    # The switch encodes the rest and leaves what looks like an escape, as it does with a call's (docs/freeswitch.md).
    assert event.raw("VM-User") == ["101"]
    assert "Nguyễn" in event["VM-Caller-ID-Name"]
    assert waiting["MWI-Voice-Message"].startswith("1/0")
    assert counted.startswith("1:0:")
    assert message["id"] in listed
    await site.mail.wait_for(1, timeout=PATIENCE)
    mail: EmailMessage = site.mail.messages[0].parsed
    (attachment,) = mail.iter_attachments()
    assert seconds_of(attachment.get_content(), FIRST) >= 2.2
    connection = await asyncpg.connect(site.dsn)
    stored = await connection.fetchval("SELECT file_path FROM voicemail_msgs WHERE uuid = $1", message["id"])
    await connection.close()
    assert Path(stored).read_bytes() == attachment.get_content()
    # The switch still records into the folder that this service made.
    left = await site.switch.leave_message("101")
    assert left.path.parent == Path(stored).parent
