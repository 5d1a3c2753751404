"""``voicemail sandbox``."""

from typing import Annotated

import typer

from app.cli.running import run


def sandbox(once: Annotated[bool, typer.Option("--once", help="show one call from recording to mail, then stop")] = False) -> int:
    """Run everything on this machine alone, to try the product."""
    from app.sandbox.run import sandbox as start

    return run(start(once=once))
