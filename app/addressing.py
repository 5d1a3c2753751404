"""How a mailbox is named everywhere: an extension in a domain, checked once and then trusted."""

import re
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from app.errors import Invalid

_EXTENSION = re.compile(r"(?=.*[0-9A-Za-z*#])[0-9A-Za-z*#._-]{1,64}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_RESERVED = {"message", "_all_"}  # the first is a path of the API, the second a keyword of mod_voicemail
_DOMAIN = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._-]{0,251}[0-9A-Za-z])?")


class Extension(str):
    """A mailbox on the switch: 1 to 64 of ``[0-9A-Za-z*#._-]``, and not only of ``._-``.

    Recordings lie in a folder of this name, so ``..`` would lose them. ``message``, ``_all_`` and UUIDs are not allowed.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str, field: str = "extension") -> Self:
        """The extension in ``text``; raises ``Invalid`` naming ``field``."""
        if not _EXTENSION.fullmatch(text):
            raise Invalid.field(field, "must be 1 to 64 characters of 0-9 A-Z a-z * # . _ -, and not only of . _ -")
        if text in _RESERVED:
            raise Invalid.field(field, f"must not be the word {text}")
        if _UUID.fullmatch(text):
            raise Invalid.field(field, "must not look like a UUID, which is the id of a mailbox or a message")
        return cls(text)


class Domain(str):
    """A directory domain of the switch, as in ``101@lab.local``: a host name or an address."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str, field: str = "domain") -> Self:
        """The domain in ``text``; raises ``Invalid`` naming ``field``."""
        if not _DOMAIN.fullmatch(text):
            raise Invalid.field(field, "must be a host name: 1 to 253 characters of 0-9 A-Z a-z . _ -")
        return cls(text)


@dataclass(frozen=True, slots=True)
class MailboxKey:
    """How a path of the API names a mailbox: by its id or its extension. If 32 hexadecimal digits match both, the id wins."""

    id: UUID | None
    extension: Extension | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``text``. If it cannot name a mailbox, the key has no id and no extension, and finds nothing."""
        try:
            id_ = UUID(text)
        except ValueError:
            id_ = None
        try:
            extension = Extension.parse(text)
        except Invalid:
            extension = None
        return cls(id_, extension)


@dataclass(frozen=True, slots=True)
class MailboxAddress:
    """Where the switch keeps a mailbox; written ``101@lab.local``."""

    extension: Extension
    domain: Domain

    def __str__(self) -> str:
        return f"{self.extension}@{self.domain}"
