"""``voicemail sandbox``."""

from typing import Annotated

import typer

from app.cli.running import run
from app.errors import VoicemailError

_NO_EXTRA = (
    "the sandbox needs packages that are not installed (aiosmtpd): install the same wheel or checkout again with its extra "
    "`sandbox`, as in pip install './freeswitch_voicemail-….whl[sandbox]'"
)


def sandbox(
    once: Annotated[bool, typer.Option("--once", help="show one call from recording to mail, then stop")] = False,
    call: Annotated[
        str | None, typer.Option("--call", metavar="EXTENSION", help="leave another message in the sandbox that runs already")
    ] = None,
) -> int:
    """Run everything on this machine alone, to try the product."""
    if call is not None:
        if once:
            raise typer.BadParameter("--once starts a sandbox, --call uses the one that runs", param_hint="--call")
        from app.sandbox.control import leave_message

        return run(leave_message(call))
    try:
        from app.sandbox.run import sandbox as start
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("aiosmtpd"):
            raise
        raise VoicemailError(_NO_EXTRA) from None

    return run(start(once=once))
