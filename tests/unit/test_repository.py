"""What is in the repository: text that people read, and few large files, each for a reason."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST = 100_000  # bytes
LARGE = {
    "uv.lock",
    "app/http/static/rapidoc-min.js",
    "app/sandbox/recordings/msg_1b3a1aaa-dc37-49a7-b048-45dfc10abec6.wav",
    "app/sandbox/recordings/msg_ec3e1941-405a-479e-b1e1-fb3cb69ef20c.wav",
}


def git(*arguments: str) -> str:
    """What git says of this checkout."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        pytest.skip(f"git does not answer here: {done.stderr.strip()}")
    return done.stdout


def test_no_large_file_is_tracked_but_those_that_must_be() -> None:
    tracked = [name for name in git("ls-files", "-z").split("\0") if name]

    large = {name for name in tracked if (path := ROOT / name).is_file() and path.stat().st_size > LARGEST}

    assert tracked
    assert large - LARGE == set(), "a file over 100 kB stays in the history for ever: list it above, or leave it out"


@pytest.mark.parametrize("name", ["py_spy-0.4.1-py2.py3-none-any.whl", "dist/any.whl", "app/any.whl"])
def test_wheels_are_ignored(name: str) -> None:
    assert git("check-ignore", "--no-index", name).strip() == name
    assert not [tracked for tracked in git("ls-files", "-z").split("\0") if tracked.endswith(".whl")]
