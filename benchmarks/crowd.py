"""Slow and malicious clients: what everybody else notices of them. ``clients`` run in a process of their own."""

import asyncio
import contextlib
import os
import random
import sys
import time
import zlib
from dataclasses import dataclass

import uvloop

from benchmarks.measures import percentiles, say
from benchmarks.site import TOKEN, Site, peer

CLIENTS, ADDRESSES = 2000, 40
SECONDS = 10.0
EVERY = 0.02
WRITES = 20
BOMBS = 10  # a second
HALF = b"GET /v1/voicemail HTTP/1.1\r\nHost: crowd\r\nAuthori"


def bomb(megabytes: int) -> bytes:
    """A gzip stream of zeros, about a thousandth of what it inflates to. Made of equal pieces, so that making it costs nothing."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = b"\0" * 1_000_000
    first = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)) * (megabytes - 1)


@dataclass(frozen=True, slots=True)
class Gets:
    """How long GETs took, in seconds, and what the machine had to do with it."""

    took: list[float]
    late: list[float]  # how much later than asked a timer of the benchmark itself fired: the machine's share
    busy: float  # the service's share of one processor

    @property
    def p99(self) -> float:
        """Of the GETs."""
        return sorted(self.took)[int(len(self.took) * 0.99)]

    def __str__(self) -> str:
        return f"{percentiles(self.took)} (a timer beside them was late by {percentiles(self.late)}; the service was busy {self.busy:.0%})"


async def slow_clients(site: Site) -> float:
    """2,000 clients from 40 addresses that send half of a request and come again when they are closed. Returns the p99 of a GET."""
    before = await _gets(site)
    async with peer(str(site.port), str(CLIENTS), module="benchmarks.crowd"):
        took = await _gets(site)
        states = [await site.create(str(30000 + number), mail_to="tech@example.com") for number in range(WRITES)]
        began = time.monotonic()
        for number in range(WRITES):
            await site.switch.leave_message(str(30000 + number), caller_name=f"crowd{number}x", talking=0.01)
        mails = [await site.mail.line() for _ in range(WRITES)]
        mailed = time.monotonic() - began
    say(
        f"GET while {CLIENTS:,} clients have sent half of a request: {took} (aim: p99 100 ms); without them {before}; "
        f"meanwhile {len(states)} of {WRITES} mailboxes written, {states.count('applied')} applied at once, "
        f"{len(mails)} of {WRITES} mails accepted in {mailed:.1f} s; memory {site.memory():.0f} MiB; load of the machine {os.getloadavg()[0]:.1f}"
    )
    return took.p99


async def bombs(site: Site) -> float:
    """10 requests a second, half of them without a token, whose small body would inflate to 600 MB. Returns the p99 of a GET."""
    body = bomb(600)
    before = await _gets(site)

    async def throw(number: int) -> None:
        authorization = f"Authorization: Bearer {TOKEN}\r\n" if number % 2 else ""
        head = (
            f"PUT /v1/voicemail/101 HTTP/1.1\r\nHost: crowd\r\nConnection: close\r\n{authorization}Content-Type: application/json\r\n"
            f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(head.encode() + body)
            answer = await reader.read()
            if not answer.startswith(b"HTTP/1.1 415"):
                raise RuntimeError(answer.decode())
            writer.close()

    async def throwing() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(SECONDS * BOMBS)):
                tasks.create_task(throw(number))
                await asyncio.sleep(1 / BOMBS)

    throws = asyncio.ensure_future(throwing())
    took = await _gets(site)
    await throws
    say(
        f"GET while {BOMBS} bodies a second come that would inflate from {len(body) / 1e6:.1f} to 600 MB: {took} (aim: p99 100 ms); "
        f"without them {before}; load of the machine {os.getloadavg()[0]:.1f}"
    )
    return took.p99


async def _gets(site: Site) -> Gets:
    """How long a GET takes, in turn over a connection that is kept and over one of its own."""
    took, late = [], []
    start, busy = time.monotonic(), site.busy()
    while time.monotonic() < start + SECONDS:
        for headers in ({}, {"Connection": "close"}):
            began = time.monotonic()
            async with site.client.get("/v1/voicemail?limit=10", headers=headers) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"a GET was answered with {answer.status}")
            done = time.monotonic()
            took.append(done - began)
            await asyncio.sleep(EVERY)
            late.append(max(0.0, time.monotonic() - done - EVERY))
    return Gets(took, late, (site.busy() - busy) / (time.monotonic() - start))


async def clients(port: int, number: int) -> None:
    """Be that many slow clients until killed; prints a line when all are connected."""
    connected = 0

    async def stay(client: int) -> None:
        nonlocal connected
        while True:
            with contextlib.suppress(OSError):
                address = f"127.0.1.{client % ADDRESSES + 1}"
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
                writer.write(HALF)
                connected += 1
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
            await asyncio.sleep(0.5 + random.random())

    tasks = [asyncio.ensure_future(stay(client)) for client in range(number)]
    while connected < number:
        await asyncio.sleep(0.05)
    sys.stdout.write(f"{connected}\n")
    sys.stdout.flush()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    uvloop.run(clients(int(sys.argv[1]), int(sys.argv[2])))
