"""Commands: what goes to the switch for honest arguments, and that a hostile one never gets there."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.addressing import Domain, Extension, MailboxAddress
from app.errors import Invalid
from app.switch import commands
from app.switch.commands import Command

BOX = MailboxAddress(Extension.parse("101"), Domain.parse("lab.local"))
UUID = "2c5ebee4-0760-4496-a6b7-bfca8d64c41e"
HOSTILE = [
    "x\napi reloadxml",
    "x\n\napi reloadxml",
    "x\rapi reloadxml",
    "x\r\n\r\nexit",
    "x\0y",
    "\n",
    "",
    "x\u2028y",
    "x\x85y",
    "x\x1by",
    "\ud800",
    "x" * 5000,
]
SPACED = ["a b", "a\tb", " a", "a ", "a\u00a0b", "a'b", "a\\nb", "a;b", "a|b", "${uuid}", "../x", "a%0Ab", "a/b"]


def call(number: str = "101", context: str = "lab", name: str = "Alice", caller: str = "0891234567") -> Command:
    """A call to the dialplan."""
    return commands.call_dialplan(Extension(number), context, caller_name=name, caller_number=caller, seconds=5)


# Every builder argument that is a plain string, with whether FreeSWITCH lets it be quoted.
TOKENS: dict[str, Callable[[str], Command]] = {
    "module_exists": commands.module_exists,
    "global_getvar": commands.global_getvar,
    "xml_locate_configuration": commands.xml_locate_configuration,
    "user_data": lambda text: commands.user_data(BOX, "param", text),
    "vm_list": lambda text: commands.vm_list(BOX, text),
    "vm_fsdb_msg_save": lambda text: commands.vm_fsdb_msg_save(BOX, text),
    "vm_fsdb_msg_delete": lambda text: commands.vm_fsdb_msg_delete(BOX, text),
    "vm_fsdb_msg_undelete": lambda text: commands.vm_fsdb_msg_undelete(BOX, text),
    "boxcount profile": lambda text: commands.vm_boxcount(BOX, profile=text),
    "list profile": lambda text: commands.vm_list(BOX, UUID, profile=text),
    "inject profile": lambda text: commands.vm_inject(BOX, "/a.wav", profile=text),
    "purge profile": lambda text: commands.vm_fsdb_msg_purge(BOX, profile=text),
    "login profile": lambda text: commands.vm_fsdb_auth_login(BOX, "1234", profile=text),
    "event": lambda text: commands.subscribe([text]),
    "subclass": lambda text: commands.subscribe([], [text]),
    "extension": lambda text: commands.vm_list(MailboxAddress(Extension(text), BOX.domain), UUID),
    "number": lambda text: call(number=text),
    "context": lambda text: call(context=text),
    "domain": lambda text: commands.message_waiting(MailboxAddress(BOX.extension, Domain(text)), new=1, saved=0),
}
QUOTABLE: dict[str, Callable[[str], Command]] = {
    "pin": lambda text: commands.vm_fsdb_auth_login(BOX, text),
    "path": lambda text: commands.vm_inject(BOX, f"/{text}" if text else ""),
    "caller_number": lambda text: commands.vm_inject(BOX, "/a.wav", caller_number=text),
    "caller_name": lambda text: commands.vm_inject(BOX, "/a.wav", caller_name=text),
}


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (commands.version(), "api version"),
        (commands.status(), "api status"),
        (commands.module_exists("mod_voicemail"), "api module_exists mod_voicemail"),
        (commands.global_getvar("domain"), "api global_getvar domain"),
        (commands.reload_xml(), "api reloadxml"),
        (commands.xml_locate_configuration("voicemail.conf"), "api xml_locate configuration configuration name voicemail.conf"),
        (commands.user_exists(BOX), "api user_exists id 101 lab.local"),
        (commands.user_data(BOX, "param", "vm-mailto"), "api user_data 101@lab.local param vm-mailto"),
        (commands.xml_flush_cache(BOX), "api xml_flush_cache id 101 lab.local"),
        (commands.vm_boxcount(BOX), "api vm_boxcount default/101@lab.local|all"),
        (commands.vm_list(BOX), "api vm_list 101@lab.local"),
        (commands.vm_list(BOX, UUID, profile="sales"), f"api vm_list 101@lab.local/sales text {UUID}"),
        (commands.vm_list(BOX, "8d1f@192.0.2.7"), "api vm_list 101@lab.local text 8d1f@192.0.2.7"),
        (
            commands.vm_inject(BOX, "/prompts/hello.wav", caller_number="5551234", caller_name="Bob Smith"),
            "api vm_inject 101@lab.local /prompts/hello.wav 5551234 'Bob Smith'",
        ),
        (commands.vm_inject(BOX, "/a b.wav"), "api vm_inject 101@lab.local '/a b.wav' anonymous anonymous"),
        (commands.vm_inject(BOX, "/a.wav", profile="sales"), "api vm_inject 101@lab.local@sales /a.wav anonymous anonymous"),
        (commands.vm_fsdb_auth_login(BOX, "4321"), "api vm_fsdb_auth_login default lab.local 101 4321"),
        (commands.vm_fsdb_auth_login(BOX, "4 2'1\\n"), "api vm_fsdb_auth_login default lab.local 101 '4 2\\'1\\\\n'"),
        (commands.vm_fsdb_msg_save(BOX, UUID), f"api vm_fsdb_msg_save default lab.local 101 {UUID}"),
        (commands.vm_fsdb_msg_delete(BOX, UUID), f"api vm_fsdb_msg_delete default lab.local 101 {UUID}"),
        (commands.vm_fsdb_msg_undelete(BOX, UUID), f"api vm_fsdb_msg_undelete default lab.local 101 {UUID}"),
        (commands.vm_fsdb_msg_purge(BOX), "api vm_fsdb_msg_purge default lab.local 101"),
        (
            commands.message_waiting(BOX, new=1, saved=2),
            "sendevent MESSAGE_WAITING\nMWI-Messages-Waiting: yes\nMWI-Message-Account: 101@lab.local\nMWI-Voice-Message: 1/2",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Command) else "",
)
def test_commands_are_what_freeswitch_reads(command: Command, text: str) -> None:
    assert command.text == text


def test_native_events_are_named_before_custom_ones_as_everything_after_is_taken_for_a_subclass() -> None:
    command = commands.subscribe(["CUSTOM", "MESSAGE_WAITING", "RELOADXML"], ["vm::maintenance"])

    assert command.text == "event plain MESSAGE_WAITING RELOADXML CUSTOM vm::maintenance"


def test_a_mailbox_without_new_messages_has_no_lamp() -> None:
    assert "MWI-Messages-Waiting: no\n" in commands.message_waiting(BOX, new=0, saved=3).text


@pytest.mark.parametrize("text", [*HOSTILE, *SPACED])
@pytest.mark.parametrize("builder", TOKENS.values(), ids=TOKENS)
def test_an_argument_that_cannot_be_quoted_is_refused_when_it_would_be_more_than_one(
    builder: Callable[[str], Command], text: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        builder(text)

    assert len(text) < 3 or text not in str(refusal.value)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
@pytest.mark.parametrize("builder", QUOTABLE.values(), ids=QUOTABLE)
def test_not_even_a_quoted_argument_carries_a_line_break(builder: Callable[[str], Command], text: str) -> None:
    with pytest.raises(Invalid):
        builder(text)


@pytest.mark.parametrize("builder", [QUOTABLE["pin"], QUOTABLE["path"]])
def test_an_empty_argument_is_refused_where_it_would_shift_the_others(builder: Callable[[str], Command]) -> None:
    with pytest.raises(Invalid):
        builder("")


@pytest.mark.parametrize("kind", ["password", "param x", "param\nexit"])
def test_only_the_three_kinds_of_user_data_can_be_asked_for(kind: str) -> None:
    with pytest.raises(Invalid):
        commands.user_data(BOX, kind, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(("new", "saved"), [(-1, 0), (0, -1), (True, 0)])
def test_a_message_count_is_a_count(new: int, saved: int) -> None:
    with pytest.raises(Invalid):
        commands.message_waiting(BOX, new=new, saved=saved)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\napi x",
        " api x",
        "api x\n",
        "api x\nexit",
        "api x\n\nexit",
        "sendevent X\n\napi y",
        "sendevent X\r\nA: b",
        "api x\0",
    ],
)
def test_text_that_is_not_one_command_cannot_become_one(text: str) -> None:
    with pytest.raises(Invalid):
        Command(text)


def test_a_secret_command_shows_its_name_and_nothing_else() -> None:
    command = commands.vm_fsdb_auth_login(BOX, "4321")

    assert repr(command) == "Command('vm_fsdb_auth_login')"
    assert command.name == "vm_fsdb_auth_login"
    assert "4321" not in f"{command}{command!r}"


def separate(text: str) -> list[str]:
    """The arguments FreeSWITCH sees: switch_separate_string of switch_utils.c, for a blank."""
    arguments: list[str] = []
    at = 0
    while at < len(text):
        begin, inside = at, False
        while at < len(text) and text[at] == " ":
            at += 1
        while at < len(text) and (inside or text[at] != " "):
            if text[at] == "\\":
                at += 1
            elif text[at] == "'":
                inside = not inside
            at += 1
        arguments.append(unquote(text[begin:at]))
        while at < len(text) and text[at] == " ":
            at += 1
    return arguments


def unquote(text: str) -> str:
    """One argument without its quotes and escapes: cleanup_separated_string of switch_utils.c."""
    escapes = {"'": "'", '"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t", "s": " "}
    kept, end, inside, at = "", 0, False, 0
    text = text.lstrip(" ")
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in escapes and at + 1 < len(text):
            at += 1
            kept += escapes[text[at]]
            end = len(kept)
        elif text[at] == "'" and (inside or "'" in text[at + 1 :]):
            inside = not inside
            end = len(kept) if inside else end
        else:
            kept += text[at]
            if text[at] != " " or inside:
                end = len(kept)
        at += 1
    return kept[:end]


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from(" '\\\"ns"), min_size=1)


@given(pin=PRINTABLE)
def test_any_printable_pin_arrives_as_one_argument_and_unchanged(pin: str) -> None:
    command = commands.vm_fsdb_auth_login(BOX, pin)

    assert separate(command.text) == ["api", "vm_fsdb_auth_login", "default", "lab.local", "101", pin]


@given(path=PRINTABLE, number=PRINTABLE, name=PRINTABLE)
def test_any_caller_name_and_file_name_arrive_as_one_argument_each(path: str, number: str, name: str) -> None:
    command = commands.vm_inject(BOX, f"/{path}", caller_number=number, caller_name=name)

    assert separate(command.text) == ["api", "vm_inject", "101@lab.local", f"/{path}", number, name]


@given(st.text())
def test_whatever_a_row_holds_as_uuid_gives_one_line_or_is_refused(text: str) -> None:
    try:
        command = commands.vm_list(BOX, text)
    except Invalid:
        return

    assert command.text == f"api vm_list 101@lab.local text {text}"
    assert len(command.text.split()) == 5


def test_a_call_to_the_dialplan_is_one_command_and_skips_the_greeting() -> None:
    assert call(name="Alice Nguyễn").text == (
        "api originate {origination_caller_id_name='Alice Nguyễn',origination_caller_id_number='0891234567',"
        "loopback_export='skip_greeting,skip_instructions',skip_greeting='true',skip_instructions='true'}"
        "loopback/101/lab &playback(tone_stream://%(5000,0,440))"
    )


@pytest.mark.parametrize("text", [*HOSTILE, "a'b", "a}b", "a,b", "${uuid}", "[x=y]", "a\\nb", "a|b", "^^:a"])
def test_a_caller_cannot_end_the_variables_of_a_call(text: str) -> None:
    for field in ("name", "caller"):
        with pytest.raises(Invalid):
            call(**{field: text})
