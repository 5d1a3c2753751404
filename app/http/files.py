"""Streams an open file to a client, whole or in part, under a name that is safe in a header (RFC 9110, RFC 6266)."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal, Protocol, TypeAlias
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from app.http.conditions import has_changed, is_known, range_holds
from app.http.problems import problem
from app.http.ranges import Part, Unsatisfiable, requested_part

_UNSAFE = re.compile(r"[^0-9A-Za-z._-]+")
_PIECE = 256 * 1024  # bytes read in one turn of a thread
_LATEST = 253_402_300_799  # the end of the year 9999, after which no date can be written

Disposition: TypeAlias = Literal["inline", "attachment"]


class Size(Protocol):
    """What is known of an open file."""

    @property
    def size(self) -> int:
        """Bytes."""


class Content(Protocol):
    """An open file: ``OpenRecording``, for one."""

    @property
    def opened(self) -> Size:
        """Its size when it was opened."""

    def read(self, offset: int, length: int) -> bytes:
        """Read a part of the file; blocks."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True, slots=True)
class Representation:
    """What a file is to a client."""

    name: str
    media_type: str
    tag: str  # of its ETag
    modified: int  # seconds since 1970
    disposition: Disposition = "attachment"
    varies: bool = False  # whether another Accept would have had another answer


def disposition(name: str, kind: Disposition = "attachment") -> str:
    """``Content-Disposition`` for any file name, RFC 6266: nothing in it can end the header or the quotes."""
    plain = _UNSAFE.sub("_", name)[:150] or "recording"
    full = quote(name.encode("utf-8", "replace")[:300], safe="")
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{full}"


def stream(request: web.Request, content: Content, shown: Representation) -> web.StreamResponse:
    """The answer that sends an open file, whole or the range that was asked for, and closes it in the end.

    Answers 304, 412 and 416 if the request's own conditions say so.
    """
    size, tag, modified = content.opened.size, shown.tag, min(max(shown.modified, 0), _LATEST)
    headers = {
        "ETag": f'"{tag}"',
        "Last-Modified": formatdate(modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
    }
    if shown.varies:
        headers["Vary"] = "Accept"
    if has_changed(request, tag, modified):
        content.close()
        return problem(412, "the recording was changed since it was read", headers=headers)
    if is_known(request, tag, modified):
        content.close()
        return web.Response(status=304, headers=headers)
    # Only GET has ranges (RFC 9110, 14.2).
    asked = request.headers.get("Range") if request.method == "GET" else None
    try:
        wanted = requested_part(asked, size) if asked and range_holds(request, tag, modified) else None
    except Unsatisfiable:
        content.close()
        return problem(416, "the range lies outside the recording", headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Disposition"] = disposition(shown.name, shown.disposition)
    if wanted:
        headers["Content-Range"] = wanted.content_range
    part, status = (wanted, 206) if wanted else (Part(0, size, size), 200)
    return Download(content, part, status=status, media_type=shown.media_type, headers=headers)


class Streamed(web.StreamResponse):
    """An answer that sends its content while aiohttp prepares it."""

    _when_over: Callable[[], None] | None = None

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
                await self.send()
            return writer
        finally:
            await self.end()
            if self._when_over is not None:
                self._when_over()

    async def send(self) -> None:
        """Send the content."""

    async def end(self) -> None:
        """Close it."""


class Download(Streamed):
    """Sends a part of an open file. It reads from the open descriptor, never from the path again."""

    def __init__(self, content: Content, part: Part, *, status: int, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self._content, self._part = content, part
        self._ahead: asyncio.Future[bytes] | None = None
        self.content_type = media_type
        self.content_length = part.length

    async def end(self) -> None:
        """Close the file."""
        self._content.close()

    async def send(self) -> None:
        """Send the part. The next piece is read while one is sent."""
        offset, left = self._part.start, self._part.length
        try:
            while left:
                piece = await (self._ahead or self._read(offset, left))
                if not piece:
                    # The file was shortened meanwhile. The client must see an incomplete body.
                    raise ConnectionResetError("the file became shorter while it was sent")
                offset, left = offset + len(piece), left - len(piece)
                self._ahead = self._read(offset, left) if left else None
                await self.write(piece)
        finally:
            if self._ahead is not None:  # its thread must not read from a number that another file has by then
                await asyncio.wait([self._ahead])

    def _read(self, offset: int, left: int) -> "asyncio.Future[bytes]":
        return asyncio.get_running_loop().run_in_executor(None, self._content.read, offset, min(left, _PIECE))
