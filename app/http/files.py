"""Streams a file to a client, a piece at a time, under a name that is safe in a header."""

import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from app.errors import NotFound

_TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".au": "audio/basic",
    ".gsm": "audio/x-gsm",
}
_UNSAFE = re.compile(r"[^0-9A-Za-z._-]+")
_PIECE = 256 * 1024


def content_type(path: Path) -> str:
    """The media type of a recording, by its suffix."""
    return _TYPES.get(path.suffix.lower(), "application/octet-stream")


def disposition(name: str) -> str:
    """``Content-Disposition`` for any file name, RFC 6266: nothing in it can end the header or the quotes."""
    plain = _UNSAFE.sub("_", name)[:150] or "recording"
    full = quote(name.encode("utf-8", "replace")[:300], safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"


def stream(path: Path, *, name: str | None = None) -> web.StreamResponse:
    """The file as a download, whole or the range that was asked for. Raises ``NotFound`` where there is no such regular file.

    ``path`` was checked to lie in its folder, so a link in its place is no longer what was checked.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(f"the recording cannot be read: {error.strerror}") from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    if not regular:
        raise NotFound("the recording is not a file")
    response = web.FileResponse(
        path,
        chunk_size=_PIECE,
        headers={"Content-Disposition": disposition(name or path.name), "Cache-Control": "private, no-store"},
    )
    response.content_type = content_type(path)
    return response
