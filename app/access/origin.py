"""Where a call came from. A grant carries it, so that whatever is audited can say it."""

import os
import pwd
from dataclasses import dataclass
from enum import StrEnum


class Actor(StrEnum):
    """What kind of caller it was."""

    TOKEN = "token"  # noqa: S105
    COMMAND = "command"  # the ``voicemail`` command; the name is that of the system's user
    PHONE = "phone"  # the owner of a mailbox, in the phone's menu
    SERVICE = "service"
    NOBODY = "nobody"  # no valid token


@dataclass(frozen=True, slots=True)
class Origin:
    """The client as its connection and its headers show it."""

    actor: Actor
    address: str = ""
    request_id: str = ""
    user_agent: str = ""


HERE = Origin(Actor.SERVICE)
COMMAND_LINE = Origin(Actor.COMMAND)


def system_user() -> str:
    """Who runs this process, and who became that user by sudo."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that runs as a number
        user = str(os.getuid())
    by = os.environ.get("SUDO_USER", "")
    return f"{user} (sudo of {by})" if by and by != user else user
