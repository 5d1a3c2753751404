"""A whole Debian root to install into and throw away: this machine's own, under an overlay that nobody else sees."""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.pbx import CHECKOUT

# The lower layer is this machine's root and stays as it is: what is written goes to a tmpfs that ends with the namespace.
_ENTER = """
set -eu
mount -t tmpfs tmpfs "$1/layers" && mkdir "$1/layers/upper" "$1/layers/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/layers/upper,workdir=$1/layers/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mkdir -p "$1/root/drill" "$1/root/etc/freeswitch" "$1/root/var/lib/freeswitch/storage"
mount --bind "$1/drill" "$1/root/drill"
mount --bind "$1/freeswitch" "$1/root/etc/freeswitch"
mount --bind "$1/storage" "$1/root/var/lib/freeswitch/storage"
mkdir -p "$1/root/run/systemd/system"
exec chroot "$1/root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/drill/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -eu /drill/script
"""
_SYSTEMCTL = """#!/bin/sh
echo "$*" >>/drill/systemctl.log
case "$*" in
    "enable --now voicemail")
        setpriv --reuid freeswitch --regid freeswitch --init-groups --inh-caps=-all --reset-env \\
            /opt/voicemail/bin/voicemail --env-file /etc/voicemail.env serve >/drill/service.log 2>&1 &
        echo $! >/drill/pid
        for _ in $(seq 300); do ! grep -q '"serving"' /drill/service.log || exit 0; sleep 0.1; done
        cat /drill/service.log >&2; exit 1 ;;
    *"disable --now voicemail.service") kill "$(cat /drill/pid)" && tail --pid="$(cat /drill/pid)" -f /dev/null ;;
esac
"""


class ThrowAwayRoot:
    """Runs scripts of root's in a root of their own; the network is this machine's."""

    def __init__(self, folder: Path) -> None:
        for name in ("layers", "root", "drill/bin", "freeswitch", "storage/voicemail/default"):
            (folder / name).mkdir(parents=True)
        self._folder = folder
        self.drill, self.directory = folder / "drill", folder / "freeswitch" / "voicemail"
        self.recordings = folder / "storage" / "voicemail" / "default"
        self.recordings.chmod(0o777)
        self.stub("systemctl", _SYSTEMCTL)

    def stub(self, name: str, text: str) -> None:
        """Put a program before all others."""
        path = self.drill / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    async def run(self, script: str) -> str:
        """Run lines of shell, each of which must succeed; returns everything they said."""
        (self.drill / "script").write_text(script)
        process = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(self._folder),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 200)
        said = output.decode(errors="replace")
        assert process.returncode == 0, said
        return said


def open_root(folder: Path) -> ThrowAwayRoot:
    """A throw-away root, or a skip with the reason."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("a throw-away root needs root, unshare and setpriv")
    for name in ("l", "u", "w", "m"):
        (folder / "probe" / name).mkdir(parents=True)
    probe = 'mount -t tmpfs t "$1/l" && mkdir "$1/l/u" "$1/l/w" && mount -t overlay o -o "lowerdir=/,upperdir=$1/l/u,workdir=$1/l/w" "$1/m"'
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", probe, "sh", str(folder / "probe")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no overlay in a namespace here: {done.stderr.strip()[:200]}")
    return ThrowAwayRoot(folder)


def shell_blocks(document: Path, language: str = "sh") -> list[str]:
    """The fenced blocks of a language, without the indentation of a list."""
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```", re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in fence.findall(document.read_text())]


def built_deb(folder: Path) -> Path:
    """The Debian package, built without network from what uv keeps; a skip if it keeps not all."""
    uv = shutil.which("uv", path=f"{CHECKOUT / '.venv' / 'bin'}:{os.environ.get('PATH', '')}")
    if uv is None or shutil.which("dpkg-deb") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("uv, dpkg-deb and Debian's Python are needed")
    environment = os.environ | {"UV": uv, "UV_OFFLINE": "1", "DEB_COMPRESSION": "none", "DEB_COMPILE": "no"}
    done = subprocess.run(
        [CHECKOUT / "deploy" / "build_deb.sh", folder], env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    if done.returncode != 0 and re.search(r"network|offline|cache|must be the distribution", done.stderr):
        pytest.skip(f"the package cannot be built here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
