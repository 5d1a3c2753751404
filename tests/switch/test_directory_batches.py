"""Many mailboxes by one reload: each is asked back, and one that is otherwise is named alone."""

import pytest

from app.addressing import Domain, Extension, MailboxAddress
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner
from app.switch.directory.model import DirectoryUser
from app.switch.esl.event_socket import EventSocket
from tests.support.switches_under_test import DOMAIN, SwitchUnderTest

ODD = ["&<>\"'", "${local_ip_v4}", "$${domain}", "%0A", "пароль", "🎉1", "a b", "../../x", "-->", "]]>", "\\n", "#*0", "x" * 64]


def address(extension: str) -> MailboxAddress:
    """A mailbox of the lab."""
    return MailboxAddress(Extension.parse(extension), Domain.parse(DOMAIN))


def user(extension: str, pin: str = "4321", mail_to: str = "", *, enabled: bool = True) -> DirectoryUser:
    """A mailbox as the switch must know it."""
    return DirectoryUser(address(extension), pin, mail_to, enabled)


@pytest.fixture
async def directory(switch: SwitchUnderTest) -> FilesDirectory:
    """The service's own directory on this switch."""
    socket = EventSocket("127.0.0.1", switch.port, switch.password)
    socket.start()
    assert await socket.wait_connected(10)
    yield FilesDirectory(switch.directory, "users", socket, Owner("1" * 32, DOMAIN))
    await socket.close()


async def test_many_mailboxes_are_proven_one_by_one(switch: SwitchUnderTest, directory: FilesDirectory) -> None:
    users = [user(str(300 + number), pin, "a@b.example" if number % 2 else "") for number, pin in enumerate(ODD)]

    assert await directory.lay_down([*users, user("400", enabled=False)], [address("999")]) == {}
    await directory.renew()

    assert await directory.check([*users, user("400", enabled=False)], [address("999")]) == {}
    assert await switch.api(f"user_data 312@{DOMAIN} param vm-password") == ODD[12]


async def test_each_parameter_that_differs_is_named(switch: SwitchUnderTest, directory: FilesDirectory) -> None:
    await directory.lay_down([user("300"), user("301"), user("302"), user("303")], [])
    await directory.renew()

    refused = await directory.check(
        [user("300"), user("301", "9999"), user("302", mail_to="a@b.example"), user("303", enabled=False), user("304")], []
    )

    assert set(refused) == {"301", "302", "303", "304"}
    assert "vm-password differ" in str(refused[Extension("301")])
    assert "vm-mailto differ" in str(refused[Extension("302")])
    assert "vm-enabled differ" in str(refused[Extension("303")])
    assert "does not know 304@" in str(refused[Extension("304")])
    assert "9999" not in str(refused[Extension("301")])


async def test_another_definition_of_one_user_is_named_and_the_others_are_well(
    switch: SwitchUnderTest, directory: FilesDirectory
) -> None:
    switch.write_file("000.xml", '<user id="301">', "<params>", '<param name="vm-password" value="1"/>', "</params>", "</user>")
    await directory.lay_down([user("300"), user("301")], [])
    await directory.renew()

    refused = await directory.check([user("300"), user("301")], [])

    assert set(refused) == {"301"}
    assert "another definition" in str(refused[Extension("301")])


async def test_of_two_parameters_with_one_name_the_last_one_counts(switch: SwitchUnderTest, directory: FilesDirectory) -> None:
    twice = ('<param name="vm-password" value="1"/>', '<param name="vm-password" value="2"/>')
    switch.write_file("103.xml", '<user id="103">', "<params>", *twice, "</params>", "</user>")
    await switch.reload()

    assert await switch.api(f"user_data 103@{DOMAIN} param vm-password") == "2"


async def test_a_removed_mailbox_is_gone_after_the_reload(switch: SwitchUnderTest, directory: FilesDirectory) -> None:
    await directory.lay_down([user("300"), user("301")], [])
    await directory.renew()

    await directory.lay_down([], [address("300")])
    await directory.renew()

    assert await directory.check([], [address("300")]) == {}
    assert await switch.api(f"user_exists id 300 {DOMAIN}") == "false"
    assert await switch.api(f"user_exists id 301 {DOMAIN}") == "true"


async def test_a_user_that_is_not_there_is_an_error(switch: SwitchUnderTest) -> None:
    assert await switch.api(f"find_user_xml id 999 {DOMAIN}") == "-ERR can't find user\n"
