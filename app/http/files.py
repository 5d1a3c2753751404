"""Streams an open file to a client, whole or in part, under a name that is safe in a header (RFC 9110, RFC 6266)."""

import asyncio
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate, parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from app.http.problems import problem
from app.http.ranges import Part, Unsatisfiable, requested_part

_TYPES = {
    ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
    ".au": "audio/basic", ".gsm": "audio/x-gsm", ".flac": "audio/flac", ".m4a": "audio/mp4", ".mp4": "audio/mp4",
}  # fmt: skip
_UNSAFE = re.compile(r"[^0-9A-Za-z._-]+")
_PIECE = 256 * 1024  # bytes read in one turn of a thread


class Facts(Protocol):
    """The size and time that the ETag is made of."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int:
        """The time of the last change."""


class Content(Protocol):
    """An open file: ``OpenRecording``, for one."""

    name: str

    @property
    def opened(self) -> Facts:
        """Its size and time when it was opened."""

    def read(self, offset: int, length: int) -> bytes:
        """Read a part of the file; blocks."""

    def close(self) -> None:
        """Close the file."""


def content_type(name: str) -> str:
    """The media type of a recording, by its suffix."""
    return _TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def disposition(name: str) -> str:
    """``Content-Disposition`` for any file name, RFC 6266: nothing in it can end the header or the quotes."""
    plain = _UNSAFE.sub("_", name)[:150] or "recording"
    full = quote(name.encode("utf-8", "replace")[:300], safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"


def stream(request: web.Request, content: Content) -> web.StreamResponse:
    """The answer that sends an open file, whole or the range that was asked for, and closes it in the end.

    Answers 304 and 416 if the request's own conditions say so.
    """
    size, mtime = content.opened.size, content.opened.mtime_ns // 1_000_000_000
    etag = f"{content.opened.mtime_ns:x}-{size:x}"
    headers = {
        "ETag": f'"{etag}"',
        "Last-Modified": formatdate(mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
    }
    if _unchanged(request, etag, mtime):
        content.close()
        return web.Response(status=304, headers=headers)
    try:
        wanted = requested_part(request.headers.get("Range"), size) if _range_holds(request, etag, mtime) else None
    except Unsatisfiable:
        content.close()
        return problem(416, "the range lies outside the recording", headers={"Content-Range": f"bytes */{size}"})
    response = Download(content, wanted or Part(0, size, size), status=206 if wanted else 200, headers=headers)
    if wanted:
        response.headers["Content-Range"] = wanted.content_range
    return response


class Download(web.StreamResponse):
    """Sends a part of an open file. It reads from the open descriptor, never from the path again."""

    def __init__(self, content: Content, part: Part, *, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers={**headers, "Content-Disposition": disposition(content.name)})
        self._content, self._part = content, part
        self._when_over: Callable[[], None] | None = None
        self.content_type = content_type(content.name)
        self.content_length = part.length

    def when_over(self, call: Callable[[], None]) -> None:
        """Call this when the content was sent, or could not be."""
        self._when_over = call

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers and then the content; aiohttp calls this once."""
        if self.prepared:
            return await super().prepare(request)
        try:
            writer = await super().prepare(request)
            if request.method != "HEAD":
                await self._send()
            return writer
        finally:
            self._content.close()
            if self._when_over is not None:
                self._when_over()

    async def _send(self) -> None:
        offset, left = self._part.start, self._part.length
        while left:
            piece = await asyncio.to_thread(self._content.read, offset, min(left, _PIECE))
            if not piece:
                # The file was shortened meanwhile. The client must see an incomplete body.
                raise ConnectionResetError("the file became shorter while it was sent")
            await self.write(piece)
            offset, left = offset + len(piece), left - len(piece)


def _unchanged(request: web.Request, etag: str, mtime: int) -> bool:
    """Whether the client has this already (RFC 9110, 13.2.2)."""
    if tags := request.if_none_match:
        return any(tag.value in (etag, "*") for tag in tags)
    since = request.if_modified_since
    return since is not None and mtime <= since.timestamp()


def _range_holds(request: web.Request, etag: str, mtime: int) -> bool:
    """Whether ``Range`` counts: without ``If-Range``, or if that names exactly this file (RFC 9110, 13.1.5)."""
    condition = request.headers.get("If-Range", "").strip()
    if not condition:
        return True
    if condition.startswith('"'):
        return condition == f'"{etag}"'
    try:
        return int(parsedate_to_datetime(condition).timestamp()) == mtime
    except (TypeError, ValueError):
        return False
