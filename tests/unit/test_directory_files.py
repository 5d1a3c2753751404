"""What is written for the switch to read: nothing in it can be anything but text, and a file is whole or not there."""

import asyncio
import os
import re
import resource
import stat
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.addressing import Domain, Extension, MailboxAddress
from app.switch.directory.files import FilesDirectory, file_name
from app.switch.directory.marks import PROBE, Claim, Owner, mark, owner_of, stamp_of
from app.switch.directory.model import DirectoryRefused, DirectoryUser
from app.switch.directory.xml import Format
from app.switch.directory.xml import render as render_for
from app.switch.esl.event_socket import EventSocket

OWNER = Owner("0123456789abcdef" * 2, "lab.local")
OTHER = Owner("f" * 32, "lab.local")

HOSTILE = [
    'a"/><param name="vm-email-all-messages" value="true"/><x y="',
    "</include>", "<include>", "<?xml?>", "<!--#include \"/etc/passwd\"-->", "-->", "]]>",
    "$${default_password}", "${domain_name}", "X-PRE-PROCESS", "x-pre-process", '<X-PRE-PROCESS cmd="exec" data="id"/>',
    "&amp;&#10;&quot;", "it's", "\N{PILE OF POO}\u00e9\u4e16", "a  b", "%0Aapi", "\\n\\", "../../etc", "' or 1=1 --",
    "-ERR no reply",
]  # fmt: skip


def user(**fields: object) -> DirectoryUser:
    address = MailboxAddress(Extension(str(fields.pop("extension", "101"))), Domain("lab.local"))
    values: dict[str, object] = {"pin": "4321", "mail_to": "tech@example.com", "enabled": True}
    return DirectoryUser(address, **(values | fields))  # type: ignore[arg-type]


def render(user: DirectoryUser, style: Format, owner: Owner = OWNER) -> bytes:
    return render_for(user, style, owner)


def as_the_switch_reads(content: bytes) -> ElementTree.Element:
    """Through what the switch does to the lines of a file before it parses them."""
    kept = []
    for line in content.decode().split("\n"):
        assert "$${" not in line
        assert "<!--#" not in line
        if "<include>" in line or "</include>" in line or "<?" in line:
            continue
        assert "x-pre-process" not in line.lower()
        kept.append(line)
    return ElementTree.fromstring("<users>" + "\n".join(kept) + "</users>")


def params(root: ElementTree.Element) -> dict[str, str]:
    found = [(param.attrib["name"], param.attrib["value"]) for param in root.iter("param")]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.fixture
def directory(tmp_path: Path) -> FilesDirectory:
    return FilesDirectory(tmp_path, "users", EventSocket("127.0.0.1", 1, "unused"), OWNER)


def test_a_mailbox_is_a_user_that_no_phone_can_register_as() -> None:
    root = as_the_switch_reads(render(user(extension="0712"), "users"))

    assert [element.attrib for element in root.iter("user")] == [{"id": "0712"}]
    assert params(root) == {
        "vm-password": "4321",
        "vm-mailto": "tech@example.com",
        "vm-enabled": "true",
        "vm-keep-local-after-email": "true",
        "sip-forbid-register": "true",
        "allow-empty-password": "false",
    }


def test_a_fragment_holds_only_the_voicemail_parameters() -> None:
    root = as_the_switch_reads(render(user(enabled=False, mail_to=""), "fragments"))

    assert [element.tag for element in root] == ["param"] * 4
    assert params(root) == {"vm-password": "4321", "vm-mailto": "", "vm-enabled": "false", "vm-keep-local-after-email": "true"}


@pytest.mark.parametrize("style", ["users", "fragments"])
def test_tags_that_the_switch_wants_on_their_own_lines_have_them(style: Format) -> None:
    lines = render(user(), style).decode().split("\n")

    assert [line for line in lines if "include>" in line] == ["<include>", "</include>"]
    assert all(line.count("<") <= 1 for line in lines)


@pytest.mark.parametrize("style", ["users", "fragments"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str, style: Format) -> None:
    root = as_the_switch_reads(render(user(pin=text, mail_to=text), style))

    assert params(root)["vm-password"] == text
    assert params(root)["vm-mailto"] == text
    assert len(params(root)) == (6 if style == "users" else 4)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=64))
def test_any_pin_comes_out_as_it_went_in(pin: str) -> None:
    # What XML 1.0 cannot say at all never gets here: a PIN is printable.
    if pin.isprintable():
        assert params(as_the_switch_reads(render(user(pin=pin), "users")))["vm-password"] == pin


def test_an_extension_that_reads_like_an_order_to_the_switch_is_only_a_name() -> None:
    root = as_the_switch_reads(render(user(extension="x-pre-process"), "users"))

    assert next(root.iter("user")).attrib["id"] == "x-pre-process"


def test_file_names_hold_nothing_that_a_shell_pattern_or_a_path_could() -> None:
    assert file_name(Extension("*98#")) == "voicemail-%2A98%23.xml"
    assert re.fullmatch(r"voicemail-[0-9A-Za-z.%_-]+\.xml", file_name(Extension("..")))


def test_neither_a_repr_nor_an_error_shows_the_pin() -> None:
    assert "4321" not in repr(user())


async def test_a_file_is_for_the_owner_and_the_group_only(directory: FilesDirectory, tmp_path: Path) -> None:
    await directory.write(user())

    assert stat.S_IMODE((tmp_path / "voicemail-101.xml").stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["voicemail-101.xml"]


async def test_a_file_with_the_same_content_is_left_alone(directory: FilesDirectory, tmp_path: Path) -> None:
    await directory.write(user())
    before = (tmp_path / "voicemail-101.xml").stat()

    await directory.write(user())

    assert (tmp_path / "voicemail-101.xml").stat() == before


async def test_a_new_content_replaces_the_file_as_a_whole(directory: FilesDirectory, tmp_path: Path) -> None:
    await directory.write(user())
    path = tmp_path / "voicemail-101.xml"
    with path.open("rb") as reader:
        await directory.write(user(pin="9999"))

        assert reader.read() == render(user(), "users")
    assert path.read_bytes() == render(user(pin="9999"), "users")


async def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(directory: FilesDirectory, tmp_path: Path) -> None:
    other = tmp_path / "other.xml"
    other.write_bytes(render(user(), "users"))
    (tmp_path / "voicemail-101.xml").symlink_to(other)

    await directory.write(user(pin="9999"))

    assert not (tmp_path / "voicemail-101.xml").is_symlink()
    assert other.read_bytes() == render(user(), "users")


async def test_a_folder_that_is_gone_is_said_so(tmp_path: Path) -> None:
    directory = FilesDirectory(tmp_path / "gone", "users", EventSocket("127.0.0.1", 1, "unused"), OWNER)

    with pytest.raises(DirectoryRefused, match="is not a folder"):
        await directory.ready()
    with pytest.raises(DirectoryRefused, match=r"gone/voicemail-101\.xml cannot be written: No such file"):
        await directory.write(user())
    await directory.erase(user().address)


async def test_only_this_services_own_files_are_found(directory: FilesDirectory, tmp_path: Path) -> None:
    await directory.write(user(extension="*98#"))
    (tmp_path / "voicemail-8.xml").write_text("of nobody that is known")
    for name in (
        "101.xml",
        "voicemail-1 2.xml",
        "voicemail-*.xml",
        "voicemail-message.xml",
        "voicemail-7.xml.bak",
        "voicemail-..%2Fx.xml",
    ):
        (tmp_path / name).write_text("somebody else's")

    assert {name for name, laid in (await directory.look()).items() if laid.owner == OWNER} == {"*98#"}
    assert len(list(tmp_path.iterdir())) == 8


async def test_what_a_killed_writer_left_is_removed_and_what_one_at_work_writes_is_not(
    directory: FilesDirectory, tmp_path: Path
) -> None:
    for name, age in (("old", 3600), ("new", 0)):
        path = tmp_path / f".voicemail-{name}.xml.0123456789abcdef.tmp"
        path.write_text("<incl")
        os.utime(path, (time.time() - age,) * 2)

    await directory.look()

    assert [path.name for path in tmp_path.iterdir()] == [".voicemail-new.xml.0123456789abcdef.tmp"]


async def test_missing_and_changed_files_are_told_from_right_ones(directory: FilesDirectory, tmp_path: Path) -> None:
    users = [user(extension=name) for name in ("101", "102", "103")]
    for one in users[:2]:
        await directory.write(one)
    (tmp_path / "voicemail-102.xml").write_text("")

    assert await directory.differing(users) == {"102", "103"}


# Whose a file is


@pytest.mark.parametrize(
    "domain", ["lab.local", "xn--bcher-kva.example", "x-pre-process.example", "a" * 120 + "-" * 120 + ".a", "10.0.0.1"]
)
@pytest.mark.parametrize("style", ["users", "fragments"])
def test_a_file_names_its_installation_and_its_domain_and_is_read_by_the_switch_all_the_same(domain: str, style: Format) -> None:
    owner = Owner(OWNER.installation, domain)
    content = render(user(), style, owner)

    assert owner_of(content) == owner
    assert params(as_the_switch_reads(content))["vm-password"] == "4321"
    assert mark(owner).count("--") == 2


@pytest.mark.parametrize(
    "line",
    [
        "<!-- voicemail installation=xyz domain=lab.local -->",
        "<!-- voicemail installation=" + "0" * 31 + " domain=lab.local -->",
        "<!-- voicemail domain=lab.local -->",
        "x <!-- voicemail installation=" + "0" * 32 + " domain=lab.local -->",
        "\0", "\n" * 3000 + "<!-- voicemail installation=" + "1" * 32 + " domain=lab.local -->",
    ],
)  # fmt: skip
def test_what_is_not_a_mark_to_the_letter_is_none(line: str) -> None:
    assert owner_of(line.encode()) is None


@pytest.mark.parametrize(
    "content",
    [
        render(user(), "users", OTHER),
        render(user(), "users", Owner(OWNER.installation, "other.local")),
        b"<include>\n</include>\n",
    ],
)
async def test_a_file_of_others_is_neither_replaced_nor_removed(
    directory: FilesDirectory, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "voicemail-101.xml"
    path.write_bytes(content)

    for claim in (Claim(), Claim(written=True), Claim(adopted="1:2:3:4")):
        with pytest.raises(DirectoryRefused, match="voicemail mailbox adopt"):
            await directory.write(user(), claim)
        await directory.erase(user().address, claim)

    assert path.read_bytes() == content
    with pytest.raises(DirectoryRefused, match="holds the mailboxes of another installation"):
        await directory.write(user(extension="102"))
    assert list(tmp_path.iterdir()) == [path]


async def test_a_file_that_was_adopted_is_replaced_as_long_as_nobody_changed_it(
    directory: FilesDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "voicemail-101.xml"
    path.write_bytes(render(user(pin="1"), "users", OTHER))
    claim = Claim(adopted=stamp_of(path.stat()))
    path.write_bytes(render(user(pin="2"), "users", OTHER))

    with pytest.raises(DirectoryRefused):
        await directory.write(user(), claim)
    assert b'"2"' in path.read_bytes()

    await directory.write(user(), Claim(adopted=stamp_of(path.stat())))
    assert path.read_bytes() == render(user(), "users")


async def test_a_file_of_ours_that_lost_its_mark_is_replaced_in_a_folder_of_ours_only(
    directory: FilesDirectory, tmp_path: Path
) -> None:
    await directory.write(user(extension="102"))
    path = tmp_path / "voicemail-101.xml"
    path.write_text("edited")

    with pytest.raises(DirectoryRefused, match="has no mark"):
        await directory.write(user())
    await directory.erase(user().address, Claim(written=True))
    assert path.read_text() == "edited"

    await directory.write(user(), Claim(written=True))
    assert path.read_bytes() == render(user(), "users")


async def test_a_file_that_cannot_be_read_is_left_alone(directory: FilesDirectory, tmp_path: Path) -> None:
    path = tmp_path / "voicemail-101.xml"
    path.mkdir()

    with pytest.raises(DirectoryRefused, match="cannot be written"):
        await directory.write(user())

    assert path.is_dir()


async def test_a_look_reads_only_what_changed(directory: FilesDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("101", "102", "103"):
        await directory.write(user(extension=name))
    await directory.look()
    read: list[str] = []
    monkeypatch.setattr("app.switch.directory.files.look_at", lambda path: read.append(path.name))
    (tmp_path / "voicemail-102.xml").write_text("edited")
    (tmp_path / "voicemail-103.xml").unlink()

    assert "103" not in await directory.look()
    assert read == ["voicemail-102.xml"]


async def test_a_probe_that_a_killed_doctor_left_is_removed_and_is_nobody_s_mailbox(
    directory: FilesDirectory, tmp_path: Path
) -> None:
    for name, age in (("old", 3600), ("new", 0)):
        path = tmp_path / f"voicemail-{name}.xml"
        path.write_bytes(render(user(extension=name), "users", Owner(PROBE, "lab.local")))
        os.utime(path, (time.time() - age,) * 2)

    assert await directory.look() == {}
    assert [path.name for path in tmp_path.iterdir()] == ["voicemail-new.xml"]


async def test_the_probe_leaves_nothing_and_removes_what_a_killed_one_left(directory: FilesDirectory, tmp_path: Path) -> None:
    left = tmp_path / ".voicemail-probe.tmp"
    left.write_bytes(b"killed half-way")
    (tmp_path / "operator.xml").write_text("<user/>")

    await directory.ready()
    await asyncio.gather(*(directory.ready() for _ in range(20)))  # copies of the service that share the folder

    assert [path.name for path in tmp_path.iterdir()] == ["operator.xml"]
    assert not left.match("*.xml")


async def test_the_probe_writes_through_no_link(directory: FilesDirectory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    (tmp_path / ".voicemail-probe.tmp").symlink_to(elsewhere)

    await directory.ready()

    assert elsewhere.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


async def test_a_disk_that_takes_no_more_bytes_is_told(directory: FilesDirectory, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # files may be made, but nothing written to them
    try:
        with pytest.raises(DirectoryRefused, match="cannot be written: File too large"):
            await directory.ready()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []
