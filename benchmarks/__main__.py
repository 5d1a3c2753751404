"""``python -m benchmarks``: measures, prints a line each, and says which aims were missed. Takes some minutes."""

import os
import platform
import sys
import tempfile
from pathlib import Path

import uvloop

from app.logs import configure_logging
from benchmarks import measures
from benchmarks.measures import say
from benchmarks.site import open_site


async def main() -> int:
    """Returns 1 where an aim was missed."""
    configure_logging("error")
    say(f"Python {platform.python_version()}, {os.cpu_count()} processors; everything runs on this machine, the peers too")
    with tempfile.TemporaryDirectory(prefix="voicemail-bench-") as folder:
        async with open_site(Path(folder)) as site:
            await measures.fill(site)
            await measures.first_start(site)
            try:
                ratio = await measures.listing(site)
                await measures.writing(site)
                median = await measures.latency(site)
                rate = await measures.mail_rate(site)
                await measures.indexing(site)
            finally:
                await site.stop()
    missed = [
        name for name, well in (("list", ratio >= 1 / 3), ("latency", median <= 0.3), ("mail rate", rate >= 0.7)) if not well
    ]
    say("every aim was met" if not missed else f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
