"""The ``vm_…`` commands of mod_voicemail, reply by reply as a FreeSWITCH 1.10.12 gives them."""

import re
import time
from pathlib import Path

import asyncpg

from app.sandbox.arguments import separate
from app.sandbox.message_actions import Caller, Mailboxes

_NO_USER = "-ERR can't find user or profile.\n"
_INJECT = "Error: [group=<group>[@domain]|domain=<domain>|<box>[@<domain>]] <sound_file> [<cid_num>] [<cid_name>]\n"
_BOX = re.compile(r"(?P<id>[^@/ ]+)@(?P<domain>[^@/ ]+)(?:/(?P<profile>[^ ]*))?")


async def boxcount(mailboxes: Mailboxes, arguments: str) -> str:
    """``vm_boxcount [profile/]id@domain[|new|saved|new-urgent|new-saved|all]``."""
    box, _, how = arguments.partition("|")
    profile, slash, address = box.rpartition("/")
    if slash and profile != mailboxes.profile:
        return "-ERR No such profile\n"
    extension, _, domain = address.partition("@")
    counts = await mailboxes.tables.count(extension, domain)
    match how:
        case "all":
            return f"{counts.new}:{counts.saved}:{counts.new_urgent}:{counts.saved_urgent}"
        case "saved":
            return str(counts.saved)
        case "new-urgent":
            return str(counts.new_urgent)
        case "new-saved":
            return str(counts.saved_urgent)
        case _:
            return str(counts.new)


async def prefs(mailboxes: Mailboxes, arguments: str) -> str:
    """``vm_prefs [profile/]id@domain[|greeting_path|name_path|password]``."""
    box, _, how = arguments.partition("|")
    extension, _, domain = box.rpartition("/")[2].partition("@")
    if not domain:
        return "-ERR No domain specified\n"
    found = await mailboxes.tables.prefs(extension, domain)
    if how in ("", "greeting_path", "name_path", "password"):
        return str(found.get(how or "greeting_path", ""))
    return ":".join(str(found[name]) for name in ("greeting_path", "name_path", "password")) if found else ""


async def messages(mailboxes: Mailboxes, arguments: str) -> str:
    """``vm_list id@domain[/profile] [text|xml] [uuid]``."""
    words = arguments.split()
    if not words:
        return "Usage: <id>@<domain>[/profile] [xml]\n"
    box = _box(mailboxes, words[0])
    if box is None:
        return _NO_USER
    rows = await mailboxes.tables.messages(*box, words[2] if len(words) > 2 else None)
    if words[1:2] == ["xml"]:
        return "<voicemail>\n" + "".join(_xml(row) for row in rows) + "</voicemail>\n"
    return "".join(_line(row) for row in rows)


async def delete(mailboxes: Mailboxes, arguments: str) -> str:
    """``vm_delete id@domain[/profile] [uuid]``."""
    words = arguments.split()
    box = _box(mailboxes, words[0]) if words else None
    if box is None:
        return _NO_USER
    await mailboxes.delete(*box, words[1] if len(words) > 1 else None)
    return "+OK\n"


async def read(mailboxes: Mailboxes, arguments: str) -> str:
    """``vm_read id@domain[/profile] read|unread [uuid]``."""
    words = arguments.split()
    box = _box(mailboxes, words[0]) if words else None
    if box is None or words[1:2] not in (["read"], ["unread"]):
        return _NO_USER
    uuid = words[2] if len(words) > 2 else None
    if words[1] == "read":
        await mailboxes.tables.mark_read(box[1], uuid, int(time.time()))
    else:
        await mailboxes.tables.mark_unread(box[1], uuid)
    await mailboxes.light(*box, "READ")
    return "+OK\n"


async def inject(mailboxes: Mailboxes, arguments: str) -> str:
    """``vm_inject id[@domain[@profile]]|domain=… file [number [name]]``."""
    words = separate(arguments, 4)
    if len(words) < 2:
        return _INJECT
    number, name = (words[2:] + ["anonymous", "anonymous"][len(words) - 2 :])[:2]
    kind, equals, domain = words[0].partition("=")
    if equals and kind == "domain":
        targets = [user.id for user in mailboxes.directory.of(domain).users()]
    else:
        extension, _, place = words[0].partition("@")
        domain = place.partition("@")[0] or mailboxes.domain
        targets = [extension] if mailboxes.user(extension, domain) else []
    if not targets:
        return _INJECT
    for extension in targets:
        await mailboxes.inject(extension, domain, Path(words[1]), Caller(name, number))
    return "+OK\n"


def _box(mailboxes: Mailboxes, text: str) -> tuple[str, str] | None:
    found = _BOX.fullmatch(text)
    if found is None or found["profile"] not in (None, mailboxes.profile):
        return None
    return found["id"], found["domain"]


def _line(row: asyncpg.Record) -> str:
    names = ("created_epoch", "read_epoch", "username", "domain", "in_folder", "file_path", "uuid", "cid_name", "cid_number")
    return ":".join(str(row[name]) for name in names) + f":{row['message_len']}\n"


def _xml(row: asyncpg.Record) -> str:
    """One message. Nothing in it is escaped, as mod_voicemail escapes nothing."""
    names = {
        "created_epoch": "created_epoch", "read_epoch": "read_epoch", "username": "username", "domain": "domain",
        "folder": "in_folder", "path": "file_path", "uuid": "uuid", "cid-name": "cid_name", "cid-number": "cid_number",
    }  # fmt: skip
    lines = [f"  <{tag}>{row[column]}</{tag}>" for tag, column in names.items()]
    return "\n".join([" <message>", *lines, f"  <message-len>{row['message_len']}</message-len>", " </message>"]) + "\n"
