"""HTTP as it is on the wire, for requests that no client library would send."""

import asyncio
from dataclasses import dataclass

import orjson

LIMIT = 20.0  # seconds for an answer, or for the end of a connection


@dataclass(frozen=True)
class Answer:
    """What a server sent: the status of its first answer, its headers in lower case, and its body as far as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, object]:
        """The body of an ``application/problem+json``."""
        assert self.headers["content-type"] == "application/problem+json", self
        found: dict[str, object] = orjson.loads(self.body)
        return found


def parsed(raw: bytes) -> Answer:
    """The first answer in what a server sent."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    length = int(headers.get("content-length", len(body)))
    return Answer(int(first.split()[1]), headers, body[:length])


async def exchange(port: int, *pieces: bytes, pause: float = 0.0, half_close: bool = False, source: str = "127.0.0.1") -> bytes:
    """Send the pieces, each in a packet of its own, and read until the server closes; what it sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), LIMIT)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def first_answer(
    port: int, *pieces: bytes, pause: float = 0.0
) -> tuple[Answer, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the pieces and read one answer with its ``Content-Length``; the connection stays as the server left it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LIMIT)
    length = parsed(head).headers.get("content-length", "0")
    return parsed(head + await asyncio.wait_for(reader.readexactly(int(length)), LIMIT)), reader, writer


async def is_closed(reader: asyncio.StreamReader, *, within: float = LIMIT) -> bool:
    """Whether the server closes within this time, and sends nothing before it."""
    try:
        return await asyncio.wait_for(reader.read(1), within) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
