"""A call to the stand-in's ``check``: somebody dials a mailbox, gives PINs, and may change the PIN."""

from uuid import uuid4

from app.sandbox.directory import DirectoryEntry
from app.sandbox.events import EventSource
from app.sandbox.message_actions import SUBCLASS, Mailboxes

TRIES = 3  # max-login-attempts
_KEYS = frozenset("0123456789*#ABCD")


class PhoneCall:
    """One call. ``max-login-attempts`` counts within it, whichever mailboxes are dialled, and starts again with the next call."""

    def __init__(self, mailboxes: Mailboxes, events: EventSource, domain: str, *, db_password_override: bool) -> None:
        self.uuid = str(uuid4())
        self._mailboxes, self._events, self._domain, self._override = mailboxes, events, domain, db_password_override
        self._tries = TRIES
        self._asked: tuple[DirectoryEntry, str] | None = None  # whose PIN is asked for, and what voicemail_prefs held then
        self._inside = ""

    async def dial(self, extension: str) -> None:
        """Begin a try: both places of a PIN are read now, before the caller gives one.

        Raises ``LookupError`` if the call is over: the tries are used up, there is no such mailbox, or it is disabled.
        """
        if not self._tries:
            raise LookupError("the switch hangs up: the tries are used up")
        self._tries -= 1
        user = self._mailboxes.user(extension, self._domain)
        if user is None or user.params.get("vm-enabled", "true") == "false":
            raise LookupError(f"the switch hangs up: no mailbox {extension}")
        self._asked = user, (await self._mailboxes.tables.prefs(user.id, self._domain)).get("password", "")

    async def give(self, pin: str) -> bool:
        """Give the PIN; whether it is right. An event tells everybody, but of an empty PIN, which is compared with nothing."""
        if not _KEYS.issuperset(pin):
            raise ValueError("a phone has no such keys")
        if self._asked is None:
            raise ValueError("no PIN was asked for")
        (user, stored), self._asked = self._asked, None
        if not pin:
            return False
        static = user.params.get("vm-password") or user.params.get("password", "")
        right = (stored != "" and stored == pin) or ((not stored or not self._override) and static != "" and static == pin)
        self._fire("authentication", user.id, {"VM-Auth-Result": "success" if right else "fail"})
        if right:
            self._inside = user.id
        return right

    async def log_in(self, extension: str, pin: str) -> bool:
        """``dial`` and ``give``."""
        await self.dial(extension)
        return await self.give(pin)

    async def change_pin(self, pin: str) -> None:
        """Set another PIN by the menu, after a login: the event first, then the row."""
        if not self._inside or not _KEYS.issuperset(pin):
            raise ValueError("nobody is logged in, or a phone has no such keys")
        self._fire("change-password", self._inside, {"VM-User-Password": pin})
        await self._mailboxes.tables.set_pref(self._inside, self._domain, "password", pin)

    def _fire(self, action: str, extension: str, headers: dict[str, str]) -> None:
        fired = {"VM-Action": action, **headers, "VM-User": extension, "VM-Domain": self._domain, "Unique-ID": self.uuid}
        self._events.fire("CUSTOM", fired, subclass=SUBCLASS, source="voicemail_check_main")
