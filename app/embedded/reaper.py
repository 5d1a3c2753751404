"""A small process that stops the embedded server after its last user ended, even if the user was killed.

Run as ``python -I -S reaper.py LOCK CLUSTER PID``: it waits until every process that holds LOCK shared is gone, even by kill -9.
It imports nothing of the package, so that it starts in milliseconds and needs no virtual environment.
"""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

PATIENCE = 60.0  # seconds for the server to write what it holds


def running(cluster: Path, pid: int) -> bool:
    """Whether the server with this process id still serves the cluster."""
    try:
        return int((cluster / "postmaster.pid").read_text().split()[0]) == pid and alive(pid)
    except (OSError, ValueError, IndexError):
        return False


def alive(pid: int) -> bool:
    """Whether a process exists and is more than an entry its parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    except (OSError, IndexError):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def main(lock: str, cluster: Path, pid: int) -> None:
    """Wait for the lock, then stop the server in its fast mode: sessions are ended, nothing is lost."""
    with open(lock, "rb") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if not running(cluster, pid):
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        while running(cluster, pid) and time.monotonic() < deadline:
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
