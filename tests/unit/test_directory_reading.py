"""A mailbox is read back out of the file it was written to, and nothing else is taken for one."""

import pytest

from app.addressing import Domain, Extension, MailboxAddress
from app.switch.directory.marks import Owner
from app.switch.directory.model import DirectoryUser
from app.switch.directory.reading import NotAMailbox, read_mailbox
from app.switch.directory.xml import Format, render

OWNER = Owner("0" * 31 + "1", "lab-1.local")


def user(body: str, name: str = "101") -> bytes:
    return f'<include>\n<user id="{name}">\n<params>\n{body}\n</params>\n</user>\n</include>\n'.encode()


PIN = '<param name="vm-password" value="4321"/>'


@pytest.mark.parametrize("style", ["users", "fragments"])
@pytest.mark.parametrize("pin", ["4321", "a b", "\"<>&'--", "世🎉", "%0A../x", "$${x}", "-ERR no reply"])
@pytest.mark.parametrize("enabled", [True, False])
def test_what_was_written_is_read(style: Format, pin: str, enabled: bool) -> None:
    address = MailboxAddress(Extension("*98#"), Domain("lab-1.local"))

    found = read_mailbox(render(DirectoryUser(address, pin, "a@b.example,c@d.example", enabled), style, OWNER), style)

    assert (found.pin, found.mail_to, found.enabled) == (pin, "a@b.example,c@d.example", enabled)
    assert found.extension == ("*98#" if style == "users" else None)
    assert pin not in repr(found)


BILLION = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(12))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f'<!DOCTYPE x [{BILLION}]>\n'.encode() + user('<param name="vm-password" value="&l11;"/>'), "document type"),
        (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">\n' + user(PIN), "document type"),
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n' + user(PIN), "document type"),
        (b"<?php x ?>\n" + user(PIN), "processing instruction"),
        (user('<param name="vm-password" value="&x;"/>'), "no XML"),
        (user('<param name="vm-password" value="$${x}"/>'), "expands"),
        (user('<x-Pre-Process cmd="exec" data="id"/>'), "expands or includes"),
        (b'<!--#exec "id"-->' + user(PIN), "expands or includes"),
        (user(""), "no vm-password"),
        (user(PIN + PIN), "twice"),
        (user(PIN + '<param name="password" value="s3cr3t"/>'), "would lose"),
        (user(PIN + '<param name="vm-mailto" value="x" other="y"/>'), "attributes"),
        (user(PIN + "<evil\u202e/>"), "no XML"),
        (user(PIN + "<evil/>"), "<evil>"),
        (user(PIN + "text"), "text between"),
        (user(PIN).replace(b"</include>", b'<user id="102">\n</user>\n</include>'), "2 users"),
        (user(PIN)[:30], "no XML"),
        (b"", "no XML"),
        (b"\0" * 100, "no XML"),
        (b'<?xml version="1.0" encoding="nonsense"?>' + user(PIN), "no XML"),
        (b'<include>\n<param name="vm-password" value="1"/>\n</include>', "in that place"),
        (b"<x>" * 20000, "in that place"),
    ],
)  # fmt: skip
def test_what_is_no_mailbox_of_this_service_is_refused_and_nothing_in_it_is_quoted(content: bytes, reason: str) -> None:
    with pytest.raises(NotAMailbox, match=reason) as caught:
        read_mailbox(content, "users")

    assert "4321" not in caught.value.detail
    assert "s3cr3t" not in caught.value.detail


def test_a_user_is_no_fragment() -> None:
    with pytest.raises(NotAMailbox, match="VOICEMAIL_DIRECTORY_FORMAT=fragments"):
        read_mailbox(user(PIN), "fragments")
