"""Who a domain's mails are from: the address and name in From, the envelope's sender, and where answers go."""

import re
from dataclasses import dataclass
from email.header import Header
from typing import Self

from app.domains.model import DomainSettings
from app.text import ascii_address, one_line

NAME = "Voicemail"
LONGEST_NAME = 100  # characters, as for a domain's mail_from_name
_ATOMS = re.compile(r"[0-9A-Za-z]+(?: [0-9A-Za-z]+)*")
_LINE = 75  # characters: what RFC 2047 allows for an encoded word, and RFC 5322 recommends for a line


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of a mail; the addresses are as ``ascii_address`` gives them."""

    address: str  # in From, and of the envelope
    name: str = NAME
    reply_to: str = ""  # "": answers go to the address

    @classmethod
    def of_domain(cls, settings: DomainSettings, service: str) -> Self:
        """What a domain says; ``service`` is VOICEMAIL_MAIL_FROM. Nothing that is no address ever reaches a header."""
        address = ascii_address(settings.mail_from or "") or service
        reply_to = ascii_address(settings.reply_to or "") or ""
        return cls(address, one_line(settings.mail_from_name or "", LONGEST_NAME) or NAME, reply_to)

    @property
    def host(self) -> str:
        """The domain of the address, which is that of the Message-ID."""
        return self.address.rpartition("@")[2]

    @property
    def from_header(self) -> str:
        """The value of From, folded: a name of plain words as it is, any other in encoded words (RFC 2047)."""
        plain = f"{self.name} <{self.address}>"
        if _ATOMS.fullmatch(self.name) and len(plain) < _LINE - len("From: "):
            return plain
        # Without its encoding a name could end the phrase, or pass for an encoded word itself.
        words = Header(self.name, "utf-8", maxlinelen=_LINE, header_name="From").encode(linesep="\r\n")
        return f"{words}\r\n <{self.address}>"
