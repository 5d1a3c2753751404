"""How a mailbox is named everywhere: an extension in a domain, checked once and then trusted."""

import re
from dataclasses import dataclass
from typing import Self

from app.errors import Invalid

_EXTENSION = re.compile(r"[0-9A-Za-z*#._-]{1,64}")
_DOMAIN = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._-]{0,251}[0-9A-Za-z])?")


class Extension(str):
    """A mailbox on the switch: 1 to 64 of ``[0-9A-Za-z*#._-]``; never ``message``, which is a path of the API."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str, field: str = "extension") -> Self:
        """The extension in ``text``; raises ``Invalid`` naming ``field``."""
        if not _EXTENSION.fullmatch(text):
            raise Invalid.field(field, "must be 1 to 64 characters of 0-9 A-Z a-z * # . _ -")
        if text == "message":
            raise Invalid.field(field, "must not be the word message")
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
class MailboxAddress:
    """Where the switch keeps a mailbox; written ``101@lab.local``."""

    extension: Extension
    domain: Domain

    def __str__(self) -> str:
        return f"{self.extension}@{self.domain}"
