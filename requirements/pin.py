"""`make pins`: the newest uv into uv.txt, and the newest build backends into pyproject.toml, each with the hashes of its files.

uv.lock pins what the program imports; this pins what installs and builds it. Read the changes before you commit them.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# hatchling and editables build this project, setuptools builds greenswitch, which is no wheel.
BUILDERS = "hatchling\neditables\nsetuptools\n"
_LIST = re.compile(r"^build-constraint-dependencies = \[\n.*?^\]\n", re.M | re.S)


def pinned(uv: str, names: str) -> str:
    """The requirements and all that they need, as lines of a requirements file with hashes for every platform."""
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--upgrade", "--no-header", "--no-annotate", "-"]
    return subprocess.run(command, input=names, capture_output=True, text=True, check=True).stdout


def constraints(requirements: str) -> str:
    """The same as a setting of uv."""
    lines = ["build-constraint-dependencies = ["]
    for requirement, hashes in re.findall(r"^(\S+==\S+)((?:.*\\\n)+.*\n)", requirements, re.M):
        found = re.findall(r"sha256:[0-9a-f]+", hashes)
        lines += [f'    {{ requirement = "{requirement}", hashes = [', *(f'        "{one}",' for one in found), "    ] },"]
    return "\n".join([*lines, "]", ""])


def main(uv: str) -> None:
    """Write both files."""
    (HERE / "uv.txt").write_text(
        "# Installs everything else: pip takes only these files. `make pins` writes it.\n" + pinned(uv, "uv\n")
    )
    project = HERE.parent / "pyproject.toml"
    project.write_text(_LIST.sub(lambda _found: constraints(pinned(uv, BUILDERS)), project.read_text(), count=1))
    subprocess.run([uv, "lock", "--quiet", "--project", str(HERE.parent)], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
