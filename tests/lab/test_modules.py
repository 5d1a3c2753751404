"""deploy/freeswitch_modules.sh: it names the modules of a configuration that an image or a running switch has not got."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.lab.freeswitch import modules

ROOT = Path(__file__).parents[2]
SCRIPT, CONFIGURATION = ROOT / "deploy/freeswitch_modules.sh", ROOT / "freeswitch_conf"

# For a machine without one: `nc -w 5 HOST PORT`.
NETCAT = """
import socket, sys
peer = socket.create_connection((sys.argv[3], int(sys.argv[4])), 5)
peer.sendall(sys.stdin.buffer.read())
while data := peer.recv(65536): sys.stdout.buffer.write(data)
"""


def run(*arguments: object, **environment: str) -> tuple[int, str, str]:
    """Its exit status, and what it wrote."""
    done = subprocess.run(
        ["sh", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with a file for each module."""
    for name in modules(CONFIGURATION):
        (tmp_path / f"{name}.so").touch()
    return tmp_path


def test_an_image_with_every_module_is_well(image: Path) -> None:
    assert run("files", CONFIGURATION, image) == (0, f"freeswitch: all {len(modules(CONFIGURATION))} modules are there\n", "")


def test_what_is_missing_is_named_whichever_file_asks_for_it(image: Path) -> None:
    for name in ("mod_pgsql", "mod_say_en"):
        (image / f"{name}.so").unlink()

    assert run("files", CONFIGURATION, image) == (1, "", "freeswitch: missing: mod_pgsql mod_say_en\n")


def test_a_module_in_a_comment_is_not_asked_for(image: Path) -> None:
    assert '<load module="mod_xml_curl"/>' in (CONFIGURATION / "autoload_configs/modules.conf.xml").read_text()
    assert not (image / "mod_xml_curl.so").exists()

    assert run("files", CONFIGURATION, image)[0] == 0


def test_a_configuration_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    status, _, errors = run("files", tmp_path, tmp_path)

    assert (status, errors) == (1, f"freeswitch: there is no {tmp_path}/autoload_configs/pre_load_modules.conf.xml\n")


def test_a_switch_that_does_not_answer_is_a_sentence(unused_port: int) -> None:
    status, _, errors = run("loaded", CONFIGURATION, VOICEMAIL_ESL_PORT=str(unused_port), VOICEMAIL_ESL_PASSWORD="secret")

    assert (status, errors) == (1, "freeswitch: takes no calls yet, or its Event Socket does not answer\n")


async def test_a_running_switch_is_asked_over_its_event_socket(tmp_path: Path) -> None:
    """With a peer that answers as FreeSWITCH 1.10.12 did."""
    found = shutil.which("nc") or shutil.which("busybox")
    netcat = f"exec {found} {'nc ' if found.endswith('busybox') else ''}" if found else f"exec {sys.executable} -c '{NETCAT}' "
    (tmp_path / "nc").write_text(f'#!/bin/sh\n{netcat}"$@"\n')
    (tmp_path / "nc").chmod(0o755)
    listed = [name for name in modules(CONFIGURATION) if name != "mod_pgsql"]
    answers = {
        "api status": "UP 0 years\nFreeSWITCH (Version 1.10.12) is ready\n",
        "api show modules": "type,name,ikey,filename\n" + "".join(f"api,x,{name},/m/{name}.so\n" for name in listed),
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Content-Type: auth/request\n\n")
        while (line := (await reader.readline()).decode().strip()) != "exit":
            if line in answers:
                writer.write(f"Content-Type: api/response\nContent-Length: {len(answers[line])}\n\n{answers[line]}".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        status, _, errors = await asyncio.to_thread(
            run,
            "loaded",
            CONFIGURATION,
            VOICEMAIL_ESL_PORT=port,
            VOICEMAIL_ESL_PASSWORD="secret",
            PATH=f"{tmp_path}:/usr/bin:/bin",
        )

    assert (status, errors) == (1, "freeswitch: missing: mod_pgsql\n")
