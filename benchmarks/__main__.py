"""``python -m benchmarks [NAME…]``: measures, prints a line each, and says which aims were missed. Takes some minutes."""

import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

from app.logs import configure_logging
from benchmarks import audio, bulk, crowd, measures
from benchmarks.measures import say
from benchmarks.site import Site, open_site

AIMS: dict[str, Callable[[float], bool]] = {
    "list": lambda ratio: ratio >= 0.8,
    "filters": lambda worst: worst <= 0.05,
    "latency": lambda median: median <= 0.3,
    "mail rate": lambda ratio: ratio >= 0.7,
    "slow clients": lambda p99: p99 <= 0.1,
    "bombs": lambda p99: p99 <= 0.1,
    "downloads": lambda ratio: ratio >= 0.9,
    "stall": lambda milliseconds: milliseconds < 20,
    "bulk deletion": lambda seconds: seconds <= 5.0,
}
MEASURES: dict[str, Callable[[Site], Awaitable[float | None]]] = {
    "list": measures.listing,
    "filters": measures.filters,
    "writing": measures.writing,
    "latency": measures.latency,
    "mail rate": measures.mail_rate,
    "indexing": measures.indexing,
    "slow clients": crowd.slow_clients,
    "bombs": crowd.bombs,
    "downloads": audio.downloads,
    "mp3": audio.transcoding,
    "stall": audio.stall,
    "bulk deletion": bulk.deletions,
}
NEED_NO_MESSAGES = {"slow clients", "bombs", "downloads", "mp3", "stall", "bulk deletion"}


async def main(wanted: Sequence[str]) -> int:
    """Returns 1 if an aim was missed, or if a name of a measure is none."""
    configure_logging("error")
    if unknown := set(wanted) - MEASURES.keys():
        say(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
        return 1
    say(f"Python {platform.python_version()}, {os.cpu_count()} processors; everything runs on this machine, the peers too")
    missed = []
    with tempfile.TemporaryDirectory(prefix="voicemail-bench-") as folder:
        async with open_site(Path(folder)) as site:
            if wanted and set(wanted) <= NEED_NO_MESSAGES:
                await site.start()
            else:
                await measures.fill(site)
                await measures.first_start(site)
            try:
                for name in wanted or MEASURES:
                    found = await MEASURES[name](site)
                    if name in AIMS and (found is None or not AIMS[name](found)):
                        missed.append(name)
            finally:
                await site.stop()
    say("every aim was met" if not missed else f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(sys.argv[1:])))
