"""PINs: which of the two opens the mailbox."""

from tests.support.switches_under_test import DOMAIN, PIN, SwitchUnderTest


async def login(switch: SwitchUnderTest, extension: str, pin: str) -> str:
    """The reply to a login."""
    return await switch.api(f"vm_fsdb_auth_login default {DOMAIN} {extension} {pin}")


async def test_the_pin_of_the_directory_opens_the_mailbox(switch: SwitchUnderTest) -> None:
    assert await login(switch, "101", PIN) == "-OK"
    assert await login(switch, "101", "9999") == "-ERR"


async def test_nobody_is_let_into_a_mailbox_that_is_not_there(switch: SwitchUnderTest) -> None:
    assert await login(switch, "999", PIN) == "-ERR User not found\n"


async def test_a_disabled_mailbox_is_closed(switch: SwitchUnderTest) -> None:
    switch.write_user("103", **{"vm-enabled": "false"})
    await switch.reload()

    assert await login(switch, "103", PIN) == "-ERR Login Denied"


async def test_a_pin_set_by_phone_is_written_to_the_preferences_and_then_the_only_one(switch: SwitchUnderTest) -> None:
    assert await switch.api(f"vm_fsdb_pref_password_set default {DOMAIN} 101 7777") == "-OK\n"

    assert await switch.database.fetchval("SELECT password FROM voicemail_prefs WHERE username = '101'") == "7777"
    assert await switch.api(f"vm_prefs 101@{DOMAIN}|password") == "7777"
    assert await login(switch, "101", "7777") == "-OK"
    assert await login(switch, "101", PIN) == "-ERR"


async def test_a_pin_written_into_the_preferences_works_at_once(switch: SwitchUnderTest) -> None:
    await switch.api(f"vm_fsdb_pref_password_set default {DOMAIN} 101 7777")

    await switch.database.execute("UPDATE voicemail_prefs SET password = '8888' WHERE username = '101'")

    assert await login(switch, "101", "8888") == "-OK"
    assert await login(switch, "101", "7777") == "-ERR"


async def test_a_second_pin_replaces_the_first_in_its_row(switch: SwitchUnderTest) -> None:
    await switch.api(f"vm_fsdb_pref_password_set default {DOMAIN} 101 7777")
    await switch.api(f"vm_fsdb_pref_password_set default {DOMAIN} 101 8888")

    rows = await switch.database.fetch("SELECT password FROM voicemail_prefs WHERE username = '101'")
    assert [row["password"] for row in rows] == ["8888"]


async def test_a_new_pin_in_the_directory_works_after_the_reload(switch: SwitchUnderTest) -> None:
    switch.write_user("101", pin="1357")
    await switch.reload()

    assert await login(switch, "101", "1357") == "-OK"
    assert await login(switch, "101", PIN) == "-ERR"


async def test_letters_of_a_pin_match_in_either_case(switch: SwitchUnderTest) -> None:
    switch.write_user("101", pin="abc123")
    await switch.reload()

    assert await login(switch, "101", "ABC123") == "-OK"


async def test_a_login_without_its_arguments_or_to_another_profile_is_an_error(switch: SwitchUnderTest) -> None:
    assert await switch.api(f"vm_fsdb_auth_login default {DOMAIN} 101") == "-ERR Missing Arguments\n"
    assert await switch.api(f"vm_fsdb_auth_login nope {DOMAIN} 101 {PIN}") == "-ERR Profile not found\n"
