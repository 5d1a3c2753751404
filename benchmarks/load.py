"""An HTTP client that costs little beside the server it loads: bytes out, bytes in, over kept connections."""

import asyncio
import time


async def requests_a_second(port: int, paths: list[str], *, token: str, connections: int = 16, seconds: float = 5.0) -> float:
    """How many GETs a server answers with 200."""
    done = 0
    over = time.monotonic() + seconds

    async def ask(number: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        while time.monotonic() < over:
            path = paths[(number + done) % len(paths)]
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            start = head.lower().index(b"content-length: ") + 16
            await reader.readexactly(int(head[start : head.index(b"\r\n", start)]))
            done += 1
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(ask(number) for number in range(connections)))
    return done / (time.monotonic() - began)
