"""The ``vm_fsdb_…`` commands of mod_voicemail: each ``profile domain id …``, and ``-OK`` if it went well."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app.sandbox.events import EventSource
from app.sandbox.message_actions import Caller, Mailboxes

DONE = "-OK\n"
_MISSING = "-ERR Missing Arguments\n"
_FORMATS = ("json", "xml")


@dataclass(frozen=True, slots=True)
class Asked:
    """A call: whose mailbox, and the arguments after it."""

    domain: str
    extension: str
    rest: tuple[str, ...]


Verb = Callable[[Asked], Awaitable[str]]


class FileStore:
    """The commands over one profile's mailboxes."""

    def __init__(self, mailboxes: Mailboxes, events: EventSource, storage: Path, *, db_password_override: bool) -> None:
        """``storage``: the switch's ``storage_dir``, where greetings are moved to."""
        self._mailboxes, self._tables, self._events = mailboxes, mailboxes.tables, events
        self._storage = storage
        self._override = db_password_override
        # The verb's words after the mailbox, without which it says that arguments are missing.
        self._verbs: dict[str, tuple[int, Verb]] = {
            "auth_login": (1, self._auth_login),
            "msg_count": (1, self._msg_count),
            "msg_list": (2, self._msg_list),
            "msg_get": (1, self._msg_get),
            "msg_save": (1, self._flag("save")),
            "msg_delete": (1, self._flag("delete")),
            "msg_undelete": (1, self._flag("")),
            "msg_purge": (0, self._msg_purge),
            "msg_forward": (3, self._msg_forward),
            "pref_password_set": (1, self._pref_password_set),
            "pref_greeting_set": (2, self._pref_greeting_set),
            "pref_greeting_get": (0, self._pref_greeting_get),
            "pref_recname_set": (1, self._pref_recname_set),
        }

    def knows(self, verb: str) -> bool:
        """Whether there is a ``vm_fsdb_<verb>``."""
        return verb in self._verbs

    async def call(self, verb: str, arguments: str) -> str:
        """The reply to ``vm_fsdb_<verb> <arguments>``."""
        needed, work = self._verbs[verb]
        words = arguments.split()
        if words[:1] and words[0] in _FORMATS:
            words = words[1:]
        if len(words) < 3 + needed:
            return _MISSING
        profile, domain, extension, *rest = words
        if profile != self._mailboxes.profile:
            return "-ERR Profile not found\n"
        return await work(Asked(domain, extension, tuple(rest)))

    async def _auth_login(self, asked: Asked) -> str:
        user = self._mailboxes.user(asked.extension, asked.domain)
        if user is None:
            return "-ERR User not found\n"
        if user.params.get("vm-enabled", "true") not in ("true", "yes", "on", "1"):
            return "-ERR Login Denied"
        stored = (await self._tables.prefs(asked.extension, asked.domain)).get("password", "")
        static = user.params.get("vm-password", "")
        valid = [stored] if stored and self._override else [stored, static]
        return "-OK" if asked.rest[0].lower() in [pin.lower() for pin in valid if pin] else "-ERR"

    async def _msg_count(self, asked: Asked) -> str:
        counts = await self._tables.count(asked.extension, asked.domain, asked.rest[0])
        return self._params(
            "msg_count", {
                "VM-Total-New-Messages": counts.new, "VM-Total-New-Urgent-Messages": counts.new_urgent,
                "VM-Total-Saved-Messages": counts.saved, "VM-Total-Saved-Urgent-Messages": counts.saved_urgent,
            },
        )  # fmt: skip

    async def _msg_list(self, asked: Asked) -> str:
        folder, kind = asked.rest[:2]
        rows = [row for row in await self._rows(asked) if row["in_folder"] == folder and _listed(row, kind)]
        named = {f"VM-List-Message-{number}-UUID": row["uuid"] for number, row in enumerate(rows, 1)}
        return self._params("msg_list", {**named, "VM-List-Count": len(rows)})

    async def _msg_get(self, asked: Asked) -> str:
        rows = await self._rows(asked, asked.rest[0])
        names = {
            "Received-Epoch": "created_epoch", "Read-Epoch": "read_epoch", "UUID": "uuid", "Caller-Name": "cid_name",
            "Caller-Number": "cid_number", "Folder": "in_folder", "File-Path": "file_path", "Duration": "message_len",
            "Read-Flags": "read_flags",
        }  # fmt: skip
        return self._params("msg_get", {f"VM-Message-{name}": rows[0][column] for name, column in names.items()} if rows else {})

    def _flag(self, flags: str) -> Verb:
        async def flag(asked: Asked) -> str:
            await self._tables.flag(asked.extension, asked.domain, asked.rest[0], flags)
            return DONE

        return flag

    async def _msg_purge(self, asked: Asked) -> str:
        await self._mailboxes.purge(asked.extension, asked.domain)
        return DONE

    async def _msg_forward(self, asked: Asked) -> str:
        uuid, domain, target = asked.rest[:3]
        if self._mailboxes.user(target, domain):
            for row in await self._rows(asked, uuid):
                caller = Caller(row["cid_name"], row["cid_number"])
                await self._mailboxes.inject(target, domain, Path(row["file_path"]), caller)
        return DONE

    async def _pref_password_set(self, asked: Asked) -> str:
        await self._tables.set_pref(asked.extension, asked.domain, "password", asked.rest[0])
        return DONE

    async def _pref_greeting_set(self, asked: Asked) -> str:
        return await self._move(asked, "greeting_path", asked.rest[1], f"greeting_{asked.rest[0]}.wav")

    async def _pref_greeting_get(self, asked: Asked) -> str:
        path = (await self._tables.prefs(asked.extension, asked.domain)).get("greeting_path", "")
        greeting = {
            "VM-Preference-Greeting-File-Path": path,
            "VM-Preference-Greeting-Slot": "Not Implemented yet",
            "VM-Preference-Greeting-Selected": "True",
        }
        return self._params("pref_greeting_get", greeting if path else {})

    async def _pref_recname_set(self, asked: Asked) -> str:
        return await self._move(asked, "name_path", asked.rest[0], "recorded_name.wav")

    async def _move(self, asked: Asked, column: str, source: str, name: str) -> str:
        """Move a file to where mod_voicemail keeps greetings, whatever the profile's own storage is."""
        target = self._storage / "voicemail" / self._mailboxes.profile / asked.domain / asked.extension / name
        if not Path(source).exists():
            return "-ERR Filename doesn't exist\n"
        target.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.move, source, target)
        await self._tables.set_pref(asked.extension, asked.domain, column, str(target))
        return DONE

    async def _rows(self, asked: Asked, uuid: str | None = None) -> list[asyncpg.Record]:
        return await self._tables.messages(asked.extension, asked.domain, uuid)

    def _params(self, verb: str, found: dict[str, object]) -> str:
        """The headers of a REQUEST_PARAMS event as JSON, which is all these commands know."""
        stamp = self._events.stamp("REQUEST_PARAMS", source=f"vm_fsdb_{verb}_function")
        headers = dict(stamp) | {name: str(value) for name, value in found.items()}
        return json.dumps(headers, ensure_ascii=False, separators=(",", ":"))


def _listed(row: asyncpg.Record, kind: str) -> bool:
    match kind:
        case "not-read":
            return bool(row["read_epoch"] == 0)
        case "new":
            return bool(row["flags"] == "")
        case "save":
            return bool(row["flags"] == "save")
        case _:
            return bool(row["read_epoch"] != 0)
