"""Reads users back with ``find_user_xml``: one command returns everything that mod_voicemail reads of a mailbox."""

import asyncio
from collections.abc import Sequence
from xml.etree import ElementTree

from app.addressing import Extension
from app.switch import commands
from app.switch.directory.model import DirectoryUser
from app.switch.directory.xml import parameters
from app.switch.esl.event_socket import EventSocket
from app.switch.esl.reply import Reply

# Commands on their way together. Others share the connection, and wait no longer than for these.
_WINDOW = 100


async def proven(switch: EventSocket, users: Sequence[DirectoryUser]) -> frozenset[Extension]:
    """The extensions that the switch answers with exactly these parameters. Raises ``SwitchUnavailable``.

    For one that is missing here nothing is proven: ask with ``user_data`` what differs.
    """
    found: set[Extension] = set()
    for start in range(0, len(users), _WINDOW):
        some = users[start : start + _WINDOW]
        replies = await asyncio.gather(*(switch.command(commands.find_user_xml(user.address)) for user in some))
        found.update(user.address.extension for user, reply in zip(some, replies, strict=True) if _proves(reply, user))
    return frozenset(found)


def _proves(reply: Reply, user: DirectoryUser) -> bool:
    """Whether the reply has the user's id, and no other value for any of its parameters."""
    try:
        root = ElementTree.fromstring(reply.text)  # noqa: S314 - it comes from the switch, which expands no entity
    except ElementTree.ParseError:
        return False
    if root.tag != "user" or root.get("id") != user.address.extension or len(root.findall("params")) != 1:
        return False
    values: dict[str, set[str]] = {}
    for param in root.iterfind("params/param"):
        values.setdefault(param.get("name", "").lower(), set()).add(param.get("value", ""))
    return all(values.get(name, {""}) == {value} for name, value in parameters(user))
