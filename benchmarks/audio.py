"""Recordings: downloads against aiohttp's own FileResponse, conversions against real time, and how long the loop stands still."""

import array
import asyncio
import math
import os
import statistics
import struct
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import aiohttp

from app.recordings.audio.conversions import Conversions
from app.recordings.audio.kinds import Kind
from app.recordings.storage import OpenRecording
from benchmarks.measures import say
from benchmarks.site import DOMAIN, TOKEN, Site, peer

ROUNDS = 25
SIZES = {"160 kB": 160_000, "32 MB": 32_000_000}
AT_ONCE = 20  # conversions


def minute() -> bytes:
    """60 seconds as FreeSWITCH records them: 8000 samples a second."""
    data = array.array("h", [int(9000 * math.sin(n * (0.1 + n % 4000 / 40000))) for n in range(480_000)]).tobytes()
    return (
        struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", len(data)
        )
        + data
    )


async def transcoding(_site: Site) -> None:
    """WAV to MP3 of a minute, as a multiple of real time; the child's start is in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "msg_1.wav"
        path.write_bytes(minute())
        took = []
        conversions = Conversions(Path(folder) / "audio", most_bytes=2**30)
        for number in range(7):
            with OpenRecording(os.open(path, os.O_RDONLY), path.name) as recording:
                began = time.perf_counter()
                (await conversions.converted(recording, str(number), Kind.MP3)).close()
                took.append(time.perf_counter() - began)
        times = 60 / statistics.median(took)
        say(f"WAV to MP3 of 60 s: {statistics.median(took) * 1000:.0f} ms, {times:.0f} times real time")


async def stall(_site: Site) -> float:
    """The longest time for which the loop stood still while 20 conversions ran, in milliseconds."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - began - 0.001)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "msg_1.wav"
        path.write_bytes(minute())
        conversions = Conversions(Path(folder) / "audio", most_bytes=2**30)

        async def one(number: int) -> None:
            with OpenRecording(os.open(path, os.O_RDONLY), path.name) as recording:
                (await conversions.converted(recording, str(number), Kind.MP3)).close()

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(3)
        at_rest, worst = worst, 0.0
        await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
        watching.cancel()
    say(
        f"the loop's worst stall while {AT_ONCE} conversions run: {worst * 1000:.1f} ms (aim 20 ms; at rest {at_rest * 1000:.1f} ms)"
    )
    return worst * 1000


async def downloads(site: Site) -> float:
    """Whole files and ranges against FileResponse, turn by turn; the service checks a token, reads the row and audits each."""
    folder = site.switch.recordings / DOMAIN / "101"
    folder.mkdir(parents=True, exist_ok=True)
    ratios = {}
    async with peer("files", str(folder)) as files, site.database() as connection:
        for name, size in SIZES.items():
            file, id_ = folder / f"msg_{uuid4()}.wav", str(uuid4())
            file.write_bytes(minute()[:44] + os.urandom(size - 44))
            await connection.execute(
                "INSERT INTO voicemail_msgs VALUES (extract(epoch FROM now())::int, 0, '101', $1, $2, 'x', '1', 'inbox', $3, 7, '', 'B_NORMAL', '')",
                DOMAIN, id_, str(file),
            )  # fmt: skip
            ours = f"http://127.0.0.1:{site.port}/v1/voicemail/message/{id_}/download"
            theirs = f"http://127.0.0.1:{files.port}/{file.name}"
            for kind, headers in (("whole", {}), ("range", {"Range": f"bytes={size // 4}-{size // 4 * 3}"})):
                found: dict[str, list[float]] = {ours: [], theirs: []}
                for number in range(ROUNDS + 1):
                    for url in sorted(found, reverse=number % 2 == 0):
                        found[url].append(await _seconds(url, headers, 40 if size < 1_000_000 else 2))
                ratio = statistics.median(b / a for a, b in zip(found[ours][1:], found[theirs][1:], strict=True))
                ratios[name, kind] = ratio
                say(
                    f"download of {name}, {kind}: {1 / statistics.median(found[ours][1:]):,.0f}/s, FileResponse {1 / statistics.median(found[theirs][1:]):,.0f}/s: ratio {ratio:.2f}"
                )
    return min(ratio for (name, _), ratio in ratios.items() if name == "32 MB")


async def _seconds(url: str, headers: dict[str, str], times: int) -> float:
    """Of one download, on average; nothing is kept of it."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        began = time.perf_counter()
        for _ in range(times):
            async with session.get(url, headers=headers) as answer:
                answer.raise_for_status()
                while await answer.content.readany():
                    pass
        return (time.perf_counter() - began) / times
