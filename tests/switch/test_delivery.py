"""How a message comes: the order of its event, its row and its MWI, and what vm_inject makes of its arguments."""

from tests.support.switches_under_test import DOMAIN, SwitchUnderTest, write_tone

ORDER = ["leave-message", "MESSAGE_WAITING", "mwi-update"]
USAGE = "Error: [group=<group>[@domain]|domain=<domain>|<box>[@<domain>]] <sound_file> [<cid_num>] [<cid_name>]\n"


async def test_a_call_fires_its_events_in_order_and_writes_its_row(switch: SwitchUnderTest) -> None:
    await switch.leave("101", name="Alice", number="0891234567")

    (row,) = await switch.until_rows(1, "101")
    await switch.client.event("mwi-update")
    named = [event.name for event in switch.client.events if event.name in ORDER]
    assert named == ORDER
    left = await switch.client.event("leave-message")
    assert (row["uuid"], row["file_path"], row["cid_name"], row["cid_number"]) == (
        left["VM-UUID"], left["VM-File-Path"], left["VM-Caller-ID-Name"], left["VM-Caller-ID-Number"],
    )  # fmt: skip
    assert (row["read_epoch"], row["in_folder"], row["flags"], row["read_flags"]) == (0, "inbox", "", "B_NORMAL")
    assert row["message_len"] >= 1


async def test_a_recording_is_where_the_profile_keeps_it_and_its_name_is_not_the_uuid_of_its_row(switch: SwitchUnderTest) -> None:
    await switch.leave("101")

    (row,) = await switch.until_rows(1, "101")
    folder, _, name = row["file_path"].rpartition("/")
    assert folder == f"{switch.recordings}/{DOMAIN}/101"
    assert name.startswith("msg_")
    assert name.endswith(".wav")
    assert row["uuid"] not in name


async def test_the_lamp_tells_how_many_messages_there_are(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "old", read_epoch=1)

    await switch.inject("101")

    waiting = await switch.client.event("MESSAGE_WAITING", MWI_Message_Account=f"101@{DOMAIN}")
    assert (waiting["MWI-Messages-Waiting"], waiting["MWI-Voice-Message"], waiting["Update-Reason"]) == ("yes", "1/1", "NEW")
    totals = await switch.client.event("mwi-update", VM_User="101")
    assert (totals["VM-Total-New"], totals["VM-Total-Saved"]) == ("1", "1")


async def test_deleting_and_marking_tell_the_lamp_and_flags_do_not(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")
    await switch.insert("101", "b")

    await switch.api(f"vm_fsdb_msg_delete default {DOMAIN} 101 a")
    await switch.api(f"vm_fsdb_msg_save default {DOMAIN} 101 b")
    silent = await switch.quiet()
    await switch.api(f"vm_read 101@{DOMAIN} read a")
    await switch.client.event("MESSAGE_WAITING", Update_Reason="READ")
    await switch.api(f"vm_delete 101@{DOMAIN} b")
    await switch.client.event("MESSAGE_WAITING", Update_Reason="DELETE")
    await switch.api(f"vm_fsdb_msg_purge default {DOMAIN} 101")

    off = await switch.client.event("MESSAGE_WAITING", Update_Reason="PURGE")
    assert silent == []
    assert (off["MWI-Messages-Waiting"], off["MWI-Voice-Message"]) == ("no", "0/0")


async def test_an_injected_message_has_a_uuid_of_its_own_that_is_in_its_name(switch: SwitchUnderTest) -> None:
    uuid = await switch.inject("101", name="Bob Smith", number="5551234")

    (row,) = await switch.rows("101")
    assert (row["cid_name"], row["cid_number"]) == ("Bob Smith", "5551234")
    assert f"/{DOMAIN}/101/msg_{uuid}_broadcast_" in row["file_path"]


async def test_injecting_a_file_that_is_not_there_is_ok_and_delivers_nothing(switch: SwitchUnderTest) -> None:
    assert await switch.api(f"vm_inject 101@{DOMAIN} /nonexistent.wav 5551234 Bob") == "+OK\n"

    assert await switch.rows() == []


async def test_injecting_into_no_mailbox_is_answered_with_the_usage(switch: SwitchUnderTest) -> None:
    path = write_tone(switch.audio / "tone.wav", 1)

    assert await switch.api(f"vm_inject 999@{DOMAIN} {path} 5551234 Bob") == USAGE
    assert await switch.api("vm_inject") == USAGE


async def test_a_mailbox_that_keeps_nothing_after_its_mail_never_stores_a_message(switch: SwitchUnderTest) -> None:
    switch.write_user("103", **{"vm-keep-local-after-email": "false", "vm-email-all-messages": "true"})
    await switch.reload()

    await switch.api(f"vm_inject 103@{DOMAIN} {write_tone(switch.audio / 'tone.wav', 1)} 5551234 Bob")

    assert "leave-message" not in await switch.quiet()
    assert await switch.rows("103") == []


async def test_a_percent_that_a_caller_sends_reaches_the_event_as_it_is(switch: SwitchUnderTest) -> None:
    await switch.inject("101", name="x %0AVM-User: 102")

    left = await switch.client.event("leave-message")
    assert left.raw("VM-Caller-ID-Name") == ["x%20%0AVM-User%3A%20102"]
    assert left.raw("VM-User") == ["101"]
    assert (await switch.rows("101"))[0]["cid_name"] == "x %0AVM-User: 102"


async def test_an_event_sent_by_a_client_reaches_the_others(switch: SwitchUnderTest) -> None:
    sender = await switch.connect()

    reply = await sender.command(f"sendevent MESSAGE_WAITING\nMWI-Messages-Waiting: no\nMWI-Message-Account: 101@{DOMAIN}")

    assert reply.text.startswith("+OK ")
    waiting = await switch.client.event("MESSAGE_WAITING", MWI_Message_Account=f"101@{DOMAIN}")
    assert waiting["MWI-Messages-Waiting"] == "no"
