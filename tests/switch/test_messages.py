"""Messages: listing, marking, deleting, and how far each of it reaches."""

import json

import pytest

from tests.support.switches_under_test import DOMAIN, SwitchUnderTest

NO_USER = "-ERR can't find user or profile.\n"


async def counts(switch: SwitchUnderTest, extension: str) -> str:
    """``new:saved:urgent new:urgent saved``."""
    return await switch.api(f"vm_boxcount {extension}@{DOMAIN}|all")


async def test_messages_are_counted_by_whether_they_were_read_and_how_urgent_they_are(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")
    await switch.insert("101", "b", read_epoch=1)
    await switch.insert("101", "c", read_flags="A_URGENT")
    await switch.insert("102", "d")

    assert await counts(switch, "101") == "2:1:1:0"
    assert await switch.api(f"vm_boxcount 101@{DOMAIN}") == "2"
    assert await switch.api(f"vm_boxcount default/101@{DOMAIN}|saved") == "1"
    assert await counts(switch, "999") == "0:0:0:0"


async def test_an_unknown_profile_is_an_error_and_no_argument_is_zero(switch: SwitchUnderTest) -> None:
    assert await switch.api(f"vm_boxcount nope/101@{DOMAIN}|all") == "-ERR No such profile\n"
    assert await switch.api("vm_boxcount") == "0"


async def test_a_list_has_one_line_a_message_with_nothing_escaped(switch: SwitchUnderTest) -> None:
    path = await switch.insert("101", "a", cid_name="x:y <z> & %0A")

    assert await switch.api(f"vm_list 101@{DOMAIN}") == (f"1795460563:0:101:{DOMAIN}:inbox:{path}:a:x:y <z> & %0A:0891234567:1\n")
    assert "<cid-name>x:y <z> & %0A</cid-name>" in await switch.api(f"vm_list 101@{DOMAIN} xml")


async def test_one_message_is_listed_by_its_uuid(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")
    await switch.insert("101", "b")

    listed = await switch.api(f"vm_list 101@{DOMAIN} text b")

    assert ":b:" in listed
    assert ":a:" not in listed


@pytest.mark.parametrize(
    "command", ["vm_list 101", f"vm_list 101@{DOMAIN}/nope", f"vm_read 101@{DOMAIN} bad", f"vm_delete 101@{DOMAIN}/nope a"]
)
async def test_what_is_not_understood_is_an_error(switch: SwitchUnderTest, command: str) -> None:
    assert await switch.api(command) == NO_USER


async def test_a_message_marked_read_is_saved_and_marked_unread_is_new_again(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a", flags="save")

    assert await switch.api(f"vm_read 101@{DOMAIN} read a") == "+OK\n"
    read = (await counts(switch, "101"), (await switch.rows("101"))[0]["read_epoch"] > 0)
    assert await switch.api(f"vm_read 101@{DOMAIN} unread a") == "+OK\n"

    assert read == ("0:1:0:0", True)
    assert await counts(switch, "101") == "1:0:0:0"
    assert (await switch.rows("101"))[0]["flags"] == ""


async def test_marking_a_uuid_marks_it_in_every_mailbox(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "same")
    await switch.insert("102", "same")

    await switch.api(f"vm_read 101@{DOMAIN} read same")

    assert [row["read_epoch"] > 0 for row in await switch.rows()] == [True, True]


async def test_marking_without_a_uuid_marks_the_whole_domain(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")
    await switch.insert("102", "b")

    await switch.api(f"vm_read 101@{DOMAIN} read")

    assert await counts(switch, "102") == "0:1:0:0"


async def test_a_deleted_message_is_gone_with_its_file(switch: SwitchUnderTest) -> None:
    gone, kept = await switch.insert("101", "a"), await switch.insert("101", "b")

    assert await switch.api(f"vm_delete 101@{DOMAIN} a") == "+OK\n"

    assert [row["uuid"] for row in await switch.rows()] == ["b"]
    assert (gone.exists(), kept.exists()) == (False, True)


async def test_deleting_a_uuid_deletes_it_in_every_mailbox(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "same")
    other = await switch.insert("102", "same")

    await switch.api(f"vm_delete 101@{DOMAIN} same")

    assert await switch.rows() == []
    assert not other.exists()


async def test_deleting_without_a_uuid_empties_one_mailbox(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")
    await switch.insert("101", "b")
    await switch.insert("102", "c")

    await switch.api(f"vm_delete 101@{DOMAIN}")

    assert [row["uuid"] for row in await switch.rows()] == ["c"]


async def test_deleting_what_is_not_there_is_ok(switch: SwitchUnderTest) -> None:
    assert await switch.api(f"vm_delete 101@{DOMAIN} nope") == "+OK\n"
    assert await switch.api(f"vm_delete 999@{DOMAIN} nope") == "+OK\n"


async def test_a_message_flagged_for_deletion_stays_until_the_purge(switch: SwitchUnderTest) -> None:
    path = await switch.insert("101", "a")
    other = await switch.insert("102", "a")

    assert await switch.api(f"vm_fsdb_msg_delete default {DOMAIN} 101 a") == "-OK\n"
    flagged = [(row["username"], row["flags"]) for row in await switch.rows()]
    stayed = path.exists()
    assert await switch.api(f"vm_fsdb_msg_purge default {DOMAIN} 101") == "-OK\n"

    assert flagged == [("102", ""), ("101", "delete")] or flagged == [("101", "delete"), ("102", "")]
    assert stayed
    assert [row["username"] for row in await switch.rows()] == ["102"]
    assert (path.exists(), other.exists()) == (False, True)


async def test_a_flag_can_be_taken_off_again(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")

    await switch.api(f"vm_fsdb_msg_delete default {DOMAIN} 101 a")
    assert await switch.api(f"vm_fsdb_msg_undelete default {DOMAIN} 101 a") == "-OK\n"
    assert await switch.api(f"vm_fsdb_msg_purge default {DOMAIN} 101") == "-OK\n"

    assert len(await switch.rows("101")) == 1


async def test_saving_sets_a_flag_and_leaves_the_message_unread(switch: SwitchUnderTest) -> None:
    await switch.insert("101", "a")

    assert await switch.api(f"vm_fsdb_msg_save default {DOMAIN} 101 a") == "-OK\n"

    row = (await switch.rows("101"))[0]
    assert (row["flags"], row["read_epoch"]) == ("save", 0)


async def test_one_message_is_told_as_json(switch: SwitchUnderTest) -> None:
    path = await switch.insert("101", "a", cid_name='quo"ted')

    told = json.loads(await switch.api(f"vm_fsdb_msg_get json default {DOMAIN} 101 a"))

    expected = {"UUID": "a", "Caller-Name": 'quo"ted', "Folder": "inbox", "File-Path": str(path), "Duration": "1"}
    assert {f"VM-Message-{name}": value for name, value in expected.items()}.items() <= told.items()


async def test_an_unknown_command_is_named_in_its_error(switch: SwitchUnderTest) -> None:
    assert await switch.api("vm_nope 101") == "-ERR vm_nope Command not found!\n"
