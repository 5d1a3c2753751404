"""``voicemail serve``."""

import typer

from app.cli.running import run, settings


def serve(context: typer.Context) -> int:
    """Run the service (settings: docs/settings.md)."""
    from app import service

    return run(service.serve(settings(context)))
