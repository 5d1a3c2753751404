"""Who runs a ``voicemail`` command, for the audit."""

import os
import pwd

from app.access.grant import Grant
from app.access.origin import Actor, Origin
from app.addressing import Domain


def operator(domain: Domain) -> Grant:
    """Everything, for whoever runs the command. Its name is that of the system's user."""
    return Grant.everything(_system_user(), domain).asked_from(Origin(Actor.COMMAND))


def _system_user() -> str:
    """Who runs this process, and who became that user by sudo."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that runs as a number
        user = str(os.getuid())
    by = os.environ.get("SUDO_USER", "")
    return f"{user} (sudo of {by})" if by and by != user else user
