"""The settings and the event loop that every command uses."""

import re
import signal
from collections.abc import AsyncIterator, Awaitable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

if TYPE_CHECKING:
    from app.access.grant import Grant
    from app.config import Settings

T = TypeVar("T")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PAGE = 1000


class Pages(Protocol[T]):
    """A service's function that gives a page of a list."""

    def __call__(self, grant: "Grant", *, limit: int, offset: int) -> Awaitable[tuple[list[T], int]]:
        """A page, and how many there are."""


def env_file(context: typer.Context) -> Path:
    """The file of settings: what ``--env-file`` names, else ``.env``, else /etc/voicemail.env if nothing else is given."""
    from app.config import settings_file

    return settings_file(context.obj if isinstance(context.obj, Path) else None)


def settings(context: typer.Context) -> "Settings":
    """The settings of this process, with logging set up as they say. Raises ``SettingsError``."""
    from app.config import load_settings
    from app.logs import configure_logging

    found = load_settings(env_file=env_file(context))
    configure_logging(found.log_level)
    return found


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run ``work`` on an event loop and return its exit status. Ctrl-C cancels it, and then raises ``KeyboardInterrupt``."""
    import uvloop

    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return uvloop.run(work)
    finally:
        signal.signal(signal.SIGINT, before)  # Ctrl-C while Python ends prints no traceback
        work.close()  # as if it never began


def duration(text: str, option: str) -> timedelta:
    """A time such as ``90d``, ``12h``, ``30m`` or ``0s``; anything else is a wrong call that names the option."""
    match = _DURATION.fullmatch(text)
    if match is None or (length := timedelta(**{_UNITS[match[2]]: int(match[1])})) > timedelta(days=36500):
        raise typer.BadParameter("must be a time such as 90d, 12h, 30m or 0s", param_hint=option)
    return length


async def page_through(pages: Pages[T], grant: "Grant") -> AsyncIterator[T]:
    """Everything in a list, page by page."""
    offset, total = 0, 1
    while offset < total:
        found, total = await pages(grant, limit=_PAGE, offset=offset)
        for item in found:
            yield item
        offset += _PAGE
