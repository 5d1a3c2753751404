"""Processes that a test starts and must not wait for without an end, nor leave behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

DRILL = 180.0  # seconds


async def run_script(script: str, *arguments: str, seconds: float = DRILL) -> tuple[int, bytes]:
    """Run a Python script of the tests to its end: its exit status, and what it wrote.

    It and all that it forked are killed if the test ends before.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(script)), *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output
