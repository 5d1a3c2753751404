"""``make`` and its setup: any folder, any Python that fits, the system's certificates, and nothing without a known hash."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A Python that only writes down how it is called, and makes a venv of the same kind.
STUB = """#!/bin/sh
case "$1" in
    -c) exit {usable} ;;
    -m) [ "$2" = venv ] && {{ mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/uv"; cp "$0" "$3/bin/ruff"
        cp "$0" "$3/bin/mypy"; cp "$0" "$3/bin/voicemail"; }} ;;
esac
{{ printf '%s' "${{0##*/}}"; printf ' <%s>' "$@"; echo " PIP_CERT=${{PIP_CERT:-}} UV_SYSTEM_CERTS=${{UV_SYSTEM_CERTS:-}}"; }} >>"$CALLS"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make needs of this checkout, in a folder whose name has spaces and more."""
    folder = tmp_path / "my voice (mail) $HOME"
    (folder / "requirements").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "uv.lock", "requirements/uv.txt", "requirements/setup.sh"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def python(folder: Path, name: str, *, usable: bool = True) -> None:
    """Put a Python with this name into the folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(STUB.format(usable=0 if usable else 127))
    (folder / name).chmod(0o755)


def make(checkout: Path, target: str, pythons: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run make with these Pythons alone; how it ended, and the calls of the stubs."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    tools = pythons.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("make", "sh", "mkdir", "cp", "touch", "dirname"):
        if not (tools / name).exists():
            (tools / name).symlink_to(str(shutil.which(name)))
    calls = pythons.parent / "calls"
    done = subprocess.run(
        ["make", target], cwd=checkout, capture_output=True, text=True, check=False,
        env={"PATH": f"{pythons}:{tools}", "CALLS": str(calls), **environment},
    )  # fmt: skip
    return done, calls.read_text().splitlines() if calls.exists() else []


def test_run_works_in_a_folder_with_spaces_and_installs_no_tools_of_developers(checkout: Path, tmp_path: Path) -> None:
    python(tmp_path / "bin", "python3.12")

    done, calls = make(checkout, "run", tmp_path / "bin")

    assert done.returncode == 0, done.stderr
    synced = [call for call in calls if call.startswith("uv <sync>")]
    assert len(synced) == 1
    assert "<--frozen>" in synced[0]
    assert "<--no-dev>" in synced[0]
    assert "<--extra> <sandbox>" in synced[0]
    assert calls[-1].startswith("voicemail <sandbox>")

    again, more = make(checkout, "run", tmp_path / "bin")
    assert again.returncode == 0, again.stderr
    assert [call.split()[0] for call in more[len(calls) :]] == ["voicemail"]


def test_lint_installs_everything_once_and_run_is_content_with_that(checkout: Path, tmp_path: Path) -> None:
    python(tmp_path / "bin", "python3.11")

    done, calls = make(checkout, "lint", tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    assert [call for call in calls if call.startswith("uv <sync>") and "<--all-extras>" in call and "<--no-dev>" not in call]

    done, more = make(checkout, "run", tmp_path / "bin")
    assert [call.split()[0] for call in more[len(calls) :]] == ["voicemail"], done.stderr


def test_the_first_python_that_works_is_taken(checkout: Path, tmp_path: Path) -> None:
    python(tmp_path / "bin", "python3.11", usable=False)  # as a shim of pyenv that starts nothing
    python(tmp_path / "bin", "python3.13")
    python(tmp_path / "bin", "python3.14")
    python(tmp_path / "bin", "python3", usable=False)

    done, calls = make(checkout, "run", tmp_path / "bin")

    assert done.returncode == 0, done.stderr
    assert [call.split()[0] for call in calls if "<venv>" in call] == ["python3.13"]


def test_a_python_that_is_named_is_taken_or_refused_in_a_sentence(checkout: Path, tmp_path: Path) -> None:
    python(tmp_path / "bin", "python3.11")
    python(tmp_path / "bin", "python3.10", usable=False)
    python(tmp_path / "other python", "python3")

    refused, calls = make(checkout, "run", tmp_path / "bin", PYTHON="python3.10")
    assert refused.returncode != 0
    assert "PYTHON=python3.10 is not usable" in refused.stderr
    assert calls == []

    done, calls = make(checkout, "run", tmp_path / "bin", PYTHON=str(tmp_path / "other python" / "python3"))
    assert done.returncode == 0, done.stderr
    assert [call.split()[0] for call in calls if "<venv>" in call] == ["python3"]


def test_without_any_python_a_sentence_says_what_is_needed(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()

    done, calls = make(checkout, "run", tmp_path / "bin")

    assert done.returncode != 0
    assert "no Python 3.11 to 3.14" in done.stderr
    assert calls == []


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "PIP_CERT"])
def test_pip_and_uv_take_the_system_s_certificates(checkout: Path, tmp_path: Path, name: str) -> None:
    python(tmp_path / "bin", "python3.11")
    bundle = tmp_path / "our company.pem"
    bundle.write_text("")

    done, calls = make(checkout, "run", tmp_path / "bin", **{name: str(bundle)})

    assert done.returncode == 0, done.stderr
    installs = [call for call in calls if "<pip>" in call or call.startswith("uv")]
    assert len(installs) == 2
    assert all(f"PIP_CERT={bundle} UV_SYSTEM_CERTS=1" in call for call in installs)


def test_everything_that_installs_or_builds_is_pinned_by_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    uv = [line for line in (ROOT / "requirements/uv.txt").read_text().splitlines() if not line.startswith("#")]
    builders = {
        entry["requirement"].partition("==")[0]: entry for entry in project["tool"]["uv"]["build-constraint-dependencies"]
    }

    assert re.match(r"uv==[\d.]+ \\$", uv[0])
    assert len(uv) > 10
    assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in uv[1:])
    assert project["tool"]["uv"]["require-build-hashes"] is True
    assert {"hatchling", "editables", "setuptools"} <= builders.keys()
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", entry["requirement"]) and entry["hashes"] for entry in builders.values())
    assert {entry["name"] for entry in lock["manifest"]["build-constraints"]} == builders.keys(), "run `make pins`"


def test_nothing_is_installed_in_another_way() -> None:
    files = [ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci/run", ROOT / "requirements/setup.sh"]
    lines = [line for file in files for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]

    for line in lines:
        assert not re.search(r"\b(curl|wget|pipx|npm|npx)\b", line), line
        if "pip install" in line or 'pip" install' in line:
            assert "--require-hashes" in line, line
        if re.search(r"\buv\"? sync", line):
            assert "--frozen" in line, line


@pytest.mark.parametrize("script", ["requirements/setup.sh"])
def test_scripts_are_right_and_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["sh", "-n", ROOT / script], check=False).returncode == 0
