"""Streams a ZIP of files that are read one after the other; nothing is compressed, as audio is not made smaller by that."""

import asyncio
import io
import time
import zipfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.http.files import Content, Streamed, disposition

_PIECE = 256 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: ``content`` is open, or the text itself."""

    name: str
    at: datetime
    content: Content | bytes


class _Outbox(io.RawIOBase):
    """Takes what the ZIP's writer writes. It cannot seek, so the writer puts sizes after the data."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep it until it is taken."""
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        """All that was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class Archive(Streamed):
    """Sends the members while they are made; each is closed when it was sent."""

    def __init__(self, name: str, members: AsyncGenerator[Member, None]) -> None:
        headers = {"Content-Disposition": disposition(name), "Cache-Control": "private, no-store"}
        super().__init__(headers=headers)
        self.content_type = "application/zip"
        self._members = members

    async def send(self) -> None:
        """Send the archive."""
        outbox = _Outbox()
        archive = zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED)
        try:
            async for member in self._members:
                await self._add(archive, member, outbox)
        finally:
            archive.close()  # also if the client has left: a ZipFile that is not closed complains when it is forgotten
        await self.write(outbox.taken())

    async def end(self) -> None:
        """Make no further member."""
        await self._members.aclose()

    async def _add(self, archive: zipfile.ZipFile, member: Member, outbox: _Outbox) -> None:
        info = zipfile.ZipInfo(member.name, _dos_time(member.at))
        info.create_system, info.external_attr = 3, 0o600 << 16
        content = member.content
        if isinstance(content, bytes):
            archive.writestr(info, content)
            await self.write(outbox.taken())
            return
        try:
            info.file_size = left = content.opened.size
            with archive.open(info, "w") as target:
                offset = 0
                # A file that grows is sent as it was when it was opened; one that was shortened ends where it ends.
                while left and (piece := await asyncio.to_thread(content.read, offset, min(left, _PIECE))):
                    await asyncio.to_thread(target.write, piece)
                    offset, left = offset + len(piece), left - len(piece)
                    await self.write(outbox.taken())
        finally:
            content.close()


def _dos_time(at: datetime) -> tuple[int, int, int, int, int, int]:
    """The time in the archive's own form, which knows the years 1980 to 2107."""
    if not 1980 <= at.year <= 2107:
        return time.gmtime(315_532_800)[:6]
    return at.year, at.month, at.day, at.hour, at.minute, at.second
