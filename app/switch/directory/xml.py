"""A mailbox as the XML of the switch's static directory, written so that nothing in it can be anything but text.

The switch works on the raw lines of a file before any XML parser sees them: it expands ``$${…}``, obeys ``X-PRE-PROCESS``
and ``<!--#…``, and drops without a word every line that holds ``<include>``, ``</include>`` or ``<?``, or the bare word
``X-PRE-PROCESS`` anywhere but in a tag. So tags stand on lines of their own, and values keep only characters that none of that
can be written with, the hyphen not among them; the rest become numeric character references.
"""

from typing import Literal

from app.switch.directory.escaping import escape
from app.switch.directory.marks import Owner, mark
from app.switch.directory.model import DirectoryUser

__all__ = ["Format", "escape", "parameters", "render"]

Format = Literal["users", "fragments"]

# A user without a password is let in by the switch with any password at all, so one that is only a mailbox must be refused
# outright: registering and calling alike.
_NO_PHONE = (("sip-forbid-register", "true"), ("allow-empty-password", "false"))


def parameters(user: DirectoryUser) -> tuple[tuple[str, str], ...]:
    """What mod_voicemail is told of a mailbox, in the order it is written.

    Mail is sent by this service. ``vm-keep-local-after-email`` must say true even so: with false mod_voicemail never stores a
    message. ``vm-mailto`` is there also when it is empty, so that none is inherited from the domain.
    """
    return (
        ("vm-password", user.pin),
        ("vm-mailto", user.mail_to),
        ("vm-enabled", "true" if user.enabled else "false"),
        ("vm-keep-local-after-email", "true"),
    )


def render(user: DirectoryUser, style: Format, owner: Owner) -> bytes:
    """The file of one mailbox: a whole ``<user>``, or only the lines that a user's ``<params>`` includes.

    ``owner`` is named in a comment on a line of its own.
    """
    comment = f"  {mark(owner)}"
    if style == "fragments":
        lines = ["<include>", comment, *_lines(parameters(user), "  "), "</include>"]
    else:
        lines = [
            "<include>",
            comment,
            f'  <user id="{escape(user.address.extension)}">',
            "    <params>",
            *_lines((*parameters(user), *_NO_PHONE), "      "),
            "    </params>",
            "  </user>",
            "</include>",
        ]
    return ("\n".join(lines) + "\n").encode("ascii")


def _lines(items: tuple[tuple[str, str], ...], indent: str) -> list[str]:
    return [f'{indent}<param name="{name}" value="{escape(value)}"/>' for name, value in items]
