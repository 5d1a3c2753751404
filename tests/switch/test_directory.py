"""The directory: when a change is seen, what success looks like, and what is read back."""

import pytest

from app.switch.directory.xml import escape
from tests.support.switches_under_test import DOMAIN, MAIL_TO, SwitchUnderTest


async def test_a_user_is_known_only_after_a_reload(switch: SwitchUnderTest) -> None:
    switch.write_user("103")
    before = await switch.api(f"user_exists id 103 {DOMAIN}")

    reloaded = await switch.api("reloadxml")

    assert before == "false"
    assert reloaded == "+OK [Success]\n"
    assert await switch.api(f"user_exists id 103 {DOMAIN}") == "true"


async def test_a_reload_fires_an_event(switch: SwitchUnderTest) -> None:
    await switch.reload()

    assert (await switch.client.event("RELOADXML")).name == "RELOADXML"


async def test_a_changed_parameter_is_read_back_after_the_reload(switch: SwitchUnderTest) -> None:
    switch.write_user("101", pin="9876", mail_to="new@example.com")
    before = await switch.api(f"user_data 101@{DOMAIN} param vm-mailto")

    await switch.reload()

    assert before == MAIL_TO
    assert await switch.api(f"user_data 101@{DOMAIN} param vm-mailto") == "new@example.com"
    assert await switch.api(f"user_data 101@{DOMAIN} param vm-password") == "9876"


async def test_broken_xml_is_answered_with_ok_and_an_error_and_the_old_directory_stays(switch: SwitchUnderTest) -> None:
    switch.write_file("103.xml", '<user id="103">', "<params>", '<param name="vm-password" value="1"', "</params>", "</user>")
    switch.write_user("104")

    reply = await switch.api("reloadxml")

    assert reply.startswith("+OK [[error near line "), reply
    assert reply.endswith("]\n")
    assert await switch.api(f"user_exists id 104 {DOMAIN}") == "false"
    assert await switch.api(f"user_exists id 101 {DOMAIN}") == "true"


async def test_the_directory_is_well_again_after_the_broken_file_is_gone(switch: SwitchUnderTest) -> None:
    switch.write_file("103.xml", '<user id="103">')
    assert (await switch.api("reloadxml")).startswith("+OK [[error")

    (switch.directory / "103.xml").unlink()

    assert await switch.api("reloadxml") == "+OK [Success]\n"


async def test_a_removed_user_is_gone_after_the_reload(switch: SwitchUnderTest) -> None:
    (switch.directory / "102.xml").unlink()
    await switch.reload()

    assert await switch.api(f"user_exists id 102 {DOMAIN}") == "false"
    assert await switch.api(f"user_data 102@{DOMAIN} param vm-password") == "-ERR no reply\n"


@pytest.mark.parametrize(
    "arguments", ["101@{} param vm-nope", "999@{} param vm-mailto", "101@{} var nope", "101@other.example attr id"]
)
async def test_what_is_not_there_is_an_empty_reply_as_an_error(switch: SwitchUnderTest, arguments: str) -> None:
    assert await switch.api("user_data " + arguments.format(DOMAIN)) == "-ERR no reply\n"


async def test_an_empty_parameter_looks_like_one_that_is_missing(switch: SwitchUnderTest) -> None:
    switch.write_user("103", mail_to="")
    await switch.reload()

    assert await switch.api(f"user_data 103@{DOMAIN} param vm-mailto") == "-ERR no reply\n"


async def test_ids_are_text(switch: SwitchUnderTest) -> None:
    switch.write_user("0712")
    await switch.reload()

    assert await switch.api(f"user_exists id 0712 {DOMAIN}") == "true"
    assert await switch.api(f"user_exists id 712 {DOMAIN}") == "false"
    assert await switch.api(f"user_data 0712@{DOMAIN} attr id") == "0712"


async def test_anything_beside_a_directive_on_its_line_is_lost(switch: SwitchUnderTest) -> None:
    (switch.directory / "103.xml").write_text('<include><user id="103"/></include>\n')
    (switch.directory / "104.xml").write_text('<include>\n<user id="104"/>\n</include>\n')
    await switch.reload()

    assert await switch.api(f"user_exists id 103 {DOMAIN}") == "false"
    assert await switch.api(f"user_exists id 104 {DOMAIN}") == "true"


async def test_a_fragment_is_included_and_one_that_is_missing_is_nothing(switch: SwitchUnderTest) -> None:
    fragments = switch.directory.parent / "fragments"
    fragments.mkdir(exist_ok=True)
    (fragments / "103.xml").write_text('<include>\n<param name="vm-mailto" value="b@example.com"/>\n</include>\n')
    for extension in ("103", "104"):
        switch.write_file(
            f"{extension}.xml", f'<user id="{extension}">', "<params>", '<param name="password" value="sip"/>',
            f'<X-PRE-PROCESS cmd="include" data="../fragments/{extension}.xml"/>', "</params>", "</user>",
        )  # fmt: skip
    await switch.reload()

    assert await switch.api(f"user_data 103@{DOMAIN} param vm-mailto") == "b@example.com"
    assert await switch.api(f"user_exists id 104 {DOMAIN}") == "true"


@pytest.mark.parametrize(
    "value", ["a & b", "<x>", "'single' \"double\"", "Nguyễn 🎉", "100%", "a;b|c", "back\\slash", "${domain}", "$${domain}"]
)
async def test_values_that_are_escaped_come_back_as_they_were(switch: SwitchUnderTest, value: str) -> None:
    switch.write_file(
        "103.xml", '<user id="103">', "<params>", f'<param name="vm-password" value="{escape(value)}"/>', "</params>", "</user>"
    )
    await switch.reload()

    assert await switch.api(f"user_data 103@{DOMAIN} param vm-password") == value


async def test_flushing_the_cache_says_how_many_entries_it_had(switch: SwitchUnderTest) -> None:
    assert await switch.api("xml_flush_cache") == "+OK cleared 0 entries\n"
    assert await switch.api(f"xml_flush_cache id 101 {DOMAIN}") == "+OK cleared 0 entries\n"
