"""``voicemail doctor``."""

from typing import Annotated

import typer

from app.cli.running import env_file, run


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    mail_to: Annotated[str | None, typer.Option(metavar="ADDRESS", help="also send a test mail to this address")] = None,
) -> int:
    """Check everything that the service needs, and say how to correct each problem."""
    from app.doctor.run import doctor as examine

    return run(examine(as_json=as_json, mail_to=mail_to, env_file=env_file(context)))
