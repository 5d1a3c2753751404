"""The Event Socket commands this service sends, built from typed values that cannot hold a second command.

The Event Socket is a shell: a newline begins another command and a space another argument. So a ``Command`` comes only
from the functions below. Each checks every argument, and quotes the few that may hold a space, for commands that FreeSWITCH
splits with ``switch_separate_string``. All of them raise ``Invalid``, naming the argument and never its value.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from app.addressing import Domain, Extension, MailboxAddress
from app.errors import Invalid

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FORBIDDEN = re.compile(r"[\x00\r\ud800-\udfff]|\n\n|\n\Z|\A[\s]")
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}")
_EVENT = re.compile(r"[0-9A-Z_]{1,64}")
_SUBCLASS = re.compile(r"[0-9A-Za-z_:.-]{1,128}")
# A uuid is the call's: an inbound call may bring the Call-ID of its INVITE, such as 8d1f@192.0.2.7.
_UUID = re.compile(r"[0-9A-Za-z@._:+-]{1,255}")
_PLAIN = re.compile(r"[^\s'\\]+")
_VARIABLE = re.compile(r"[^'\\{}\[\],|^$]{1,128}")
_LONGEST_ARGUMENT = 4096

DirectoryField = Literal["param", "attr", "var"]


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """One command, ready for the socket but for its final blank line; ``secret`` keeps its text out of ``repr`` and logs."""

    text: str
    secret: bool = False

    def __post_init__(self) -> None:
        many_lines = "\n" in self.text and not self.text.startswith("sendevent ")
        if not self.text or many_lines or _FORBIDDEN.search(self.text):
            raise Invalid.field("command", "must be exactly one command")

    @property
    def name(self) -> str:
        """What it does, without the arguments: ``vm_list``, ``sendevent MESSAGE_WAITING``. Safe to log."""
        words = self.text.split(maxsplit=2)
        return words[1] if words[0] == "api" and len(words) > 1 else " ".join(words[:2])

    def __repr__(self) -> str:
        return f"Command({self.name if self.secret else self.text!r})"


# The switch itself


def version() -> Command:
    """The switch's version. It costs next to nothing, so it also serves to see whether the switch still answers."""
    return Command("api version")


def status() -> Command:
    """How long the switch has been up, and its sessions, in English."""
    return Command("api status")


def module_exists(name: str) -> Command:
    """Whether a module is loaded: ``true`` or ``false``."""
    return Command(f"api module_exists {_name(name, 'module')}")


def call_dialplan(number: Extension, context: str, *, caller_name: str, caller_number: str, seconds: int) -> Command:
    """Call a number of the dialplan from the switch itself (mod_loopback), and play it a tone: for trying things out.

    The called end skips the greeting, so that the tone is what is recorded. The reply is ``+OK`` and the call's uuid.
    """
    variables = {
        "origination_caller_id_name": _variable(caller_name, "caller_name"),
        "origination_caller_id_number": _variable(caller_number, "caller_number"),
        "loopback_export": "skip_greeting,skip_instructions",
        "skip_greeting": "true",
        "skip_instructions": "true",
    }
    written = ",".join(f"{name}='{value}'" for name, value in variables.items())
    tone = f"tone_stream://%({1000 * _count(seconds, 'seconds')},0,440)"
    place = f"loopback/{Extension.parse(number)}/{_name(context, 'context')}"
    return Command(f"api originate {{{written}}}{place} &playback({tone})")


def global_getvar(name: str) -> Command:
    """The value of a global variable."""
    return Command(f"api global_getvar {_name(name, 'variable')}")


def reload_xml() -> Command:
    """Read the configuration and the static directory again.

    Only a reply that begins with ``+OK [Success]`` is success: broken XML is answered ``+OK [[error near line 39]: …]``
    and the old configuration stays. On a directory of tens of thousands of users it takes many seconds.
    """
    return Command("api reloadxml")


def xml_locate_configuration(name: str) -> Command:
    """The XML of one configuration file, such as ``voicemail.conf``; the reply may hold passwords."""
    return Command(f"api xml_locate configuration configuration name {_name(name, 'configuration')}")


# The directory


def user_exists(address: MailboxAddress) -> Command:
    """Whether the directory has a user of this id: ``true`` or ``false``."""
    extension, domain = _parts(address)
    return Command(f"api user_exists id {extension} {domain}")


def user_data(address: MailboxAddress, kind: DirectoryField, name: str) -> Command:
    """A parameter, attribute or variable of a directory user. One that is missing and one that is empty look alike."""
    if kind not in ("param", "attr", "var"):
        raise Invalid.field("kind", "must be param, attr or var")
    return Command(f"api user_data {_address(address)} {kind} {_name(name, 'name')}")


def find_user_xml(address: MailboxAddress) -> Command:
    """A directory user as XML, with what it inherits: everything ``user_data`` could tell, PIN included, in one reply."""
    extension, domain = _parts(address)
    return Command(f"api find_user_xml id {extension} {domain}")


def xml_flush_cache(address: MailboxAddress | None = None) -> Command:
    """Forget what the switch has cached of a directory user, or of all of them."""
    if address is None:
        return Command("api xml_flush_cache")
    extension, domain = _parts(address)
    return Command(f"api xml_flush_cache id {extension} {domain}")


# mod_voicemail: commands without a quoted argument (it splits them by hand)


def vm_boxcount(address: MailboxAddress, *, profile: str = "default") -> Command:
    """The counts ``new:saved:urgent new:urgent saved`` of a mailbox; the first two include the urgent ones."""
    return Command(f"api vm_boxcount {_profile(profile)}/{_address(address)}|all")


def vm_list(address: MailboxAddress, uuid: str | None = None, *, profile: str = "default") -> Command:
    """The messages of a mailbox as text, fields separated by ``:`` and not escaped."""
    chosen = "" if uuid is None else f" text {_uuid(uuid)}"
    return Command(f"api vm_list {_box(address, profile)}{chosen}")


# mod_voicemail: commands split by switch_separate_string, whose arguments may be quoted


def vm_inject(
    address: MailboxAddress, path: str, *, caller_number: str = "", caller_name: str = "", profile: str = "default"
) -> Command:
    """Leave a copy of an audio file in a mailbox. A file that is not there is answered ``+OK`` and nothing is delivered."""
    # The profile is written so here and nowhere else; without one mod_voicemail takes the domain's, then "default".
    box = _address(address) if profile == "default" else f"{_address(address)}@{_profile(profile)}"
    number = _argument(caller_number or "anonymous", "caller_number")
    name = _argument(caller_name or "anonymous", "caller_name")
    return Command(f"api vm_inject {box} {_path(path)} {number} {name}")


def vm_fsdb_auth_login(address: MailboxAddress, pin: str, *, profile: str = "default") -> Command:
    """Whether a PIN opens a mailbox: ``-OK`` means yes, ``-ERR`` no."""
    return Command(f"{_fsdb('auth_login', address, profile)} {_argument(pin, 'pin')}", secret=True)


def vm_fsdb_msg_save(address: MailboxAddress, uuid: str, *, profile: str = "default") -> Command:
    """Mark a message of this mailbox as saved; sends no MWI. ``-OK`` is success."""
    return Command(f"{_fsdb('msg_save', address, profile)} {_uuid(uuid)}")


def vm_fsdb_msg_delete(address: MailboxAddress, uuid: str, *, profile: str = "default") -> Command:
    """Flag a message of this mailbox for deletion; the row and the file stay until a purge. ``-OK`` is success."""
    return Command(f"{_fsdb('msg_delete', address, profile)} {_uuid(uuid)}")


def vm_fsdb_msg_undelete(address: MailboxAddress, uuid: str, *, profile: str = "default") -> Command:
    """Take the deletion flag off again. ``-OK`` is success."""
    return Command(f"{_fsdb('msg_undelete', address, profile)} {_uuid(uuid)}")


def vm_fsdb_msg_purge(address: MailboxAddress, *, profile: str = "default") -> Command:
    """Remove every message of this mailbox that is flagged for deletion, also those a phone session flagged."""
    return Command(_fsdb("msg_purge", address, profile))


# Events


def subscribe(events: Iterable[str], subclasses: Iterable[str] = ()) -> Command:
    """Receive these events, and the CUSTOM events of these subclasses.

    Every word after ``CUSTOM`` is taken for a subclass, so a native event named after it would silently never come.
    """
    natives = [_matching(_EVENT, name, "event") for name in events if name != "CUSTOM"]
    custom = [_matching(_SUBCLASS, name, "subclass") for name in subclasses]
    if not natives and not custom:
        raise Invalid.field("events", "must name at least one event")
    return Command(" ".join(["event plain", *natives, *(["CUSTOM", *custom] if custom else [])]))


def message_waiting(address: MailboxAddress, *, new: int, saved: int) -> Command:
    """Tell the phones of a mailbox how many messages it has, as mod_voicemail does after a change of its own."""
    counts = f"{_count(new, 'new')}/{_count(saved, 'saved')}"
    headers = {
        "MWI-Messages-Waiting": "yes" if new else "no",
        "MWI-Message-Account": _address(address),
        "MWI-Voice-Message": counts,
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return Command("\n".join(["sendevent MESSAGE_WAITING", *lines]))


def left_message(address: MailboxAddress, headers: Mapping[str, str]) -> Command:
    """Fire ``leave-message`` as mod_voicemail does before it writes a row; ``headers`` are those after the mailbox.

    The switch takes each value as it is, up to the end of its line.
    """
    extension, domain = _parts(address)
    lines = ["sendevent CUSTOM", "Event-Subclass: vm::maintenance", "VM-Action: leave-message"]
    lines += [f"VM-User: {extension}", f"VM-Domain: {domain}"]
    lines += [f"{_name(name, 'header')}: {_header(value, name)}" for name, value in headers.items()]
    return Command("\n".join(lines))


def _fsdb(verb: str, address: MailboxAddress, profile: str) -> str:
    extension, domain = _parts(address)
    return f"api vm_fsdb_{verb} {_profile(profile)} {domain} {extension}"


def _parts(address: MailboxAddress) -> tuple[str, str]:
    # Checked again although the types say so: an Extension can be built without parse, and this is the last line.
    return Extension.parse(address.extension), Domain.parse(address.domain)


def _address(address: MailboxAddress) -> str:
    extension, domain = _parts(address)
    return f"{extension}@{domain}"


def _box(address: MailboxAddress, profile: str) -> str:
    # mod_voicemail's own default, left out as an operator would.
    return _address(address) if profile == "default" else f"{_address(address)}/{_profile(profile)}"


def _matching(pattern: re.Pattern[str], value: str, field: str) -> str:
    if not pattern.fullmatch(value):
        raise Invalid.field(field, "has characters that cannot be in a command")
    return value


def _name(value: str, field: str) -> str:
    if not _NAME.fullmatch(value):
        raise Invalid.field(field, "must be 1 to 128 characters of 0-9 A-Z a-z _ . -")
    return value


def _profile(value: str) -> str:
    return _name(value, "profile")


def _uuid(value: str) -> str:
    if not _UUID.fullmatch(value):
        raise Invalid.field("uuid", "must be 1 to 255 characters of 0-9 A-Z a-z @ . _ : + -")
    return value


def _count(value: int, field: str) -> int:
    if isinstance(value, bool) or value < 0:
        raise Invalid.field(field, "must be a number from 0 on")
    return int(value)


def _path(value: str) -> str:
    if not value.startswith("/"):
        raise Invalid.field("path", "must be an absolute path on the switch")
    return _argument(value, "path")


def _variable(value: str, field: str) -> str:
    """The value of a channel variable of ``originate``, which has no way to escape what ends one."""
    if _CONTROL.search(value):
        raise Invalid.field(field, "must not hold line breaks or control characters")
    return _matching(_VARIABLE, value, field)


def _header(value: str, field: str) -> str:
    if len(value) > _LONGEST_ARGUMENT or _CONTROL.search(value):
        raise Invalid.field(field, f"must be at most {_LONGEST_ARGUMENT} characters without line breaks or control characters")
    return value


def _argument(value: str, field: str) -> str:
    """One argument of ``switch_separate_string``, in single quotes if it needs them, with backslash and quote escaped."""
    if not value or len(value) > _LONGEST_ARGUMENT or _CONTROL.search(value):
        raise Invalid.field(field, f"must be 1 to {_LONGEST_ARGUMENT} characters without line breaks or control characters")
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
