"""What every command shares: its settings, and an event loop for its work."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import typer
import uvloop

from app.config import Settings, load_settings
from app.logs import configure_logging


def env_file(context: typer.Context) -> Path:
    """The file of settings that ``--env-file`` names, else ``.env``."""
    return context.obj if isinstance(context.obj, Path) else Path(".env")


def settings(context: typer.Context) -> Settings:
    """The settings of this process, with logging set up as they say. Raises ``SettingsError``."""
    found = load_settings(env_file=env_file(context))
    configure_logging(found.log_level)
    return found


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run ``work`` on an event loop and return its exit status."""
    return uvloop.run(work)
