"""Clients made from openapi.json by other people's tools compile and work; each is skipped if its tool is not on PATH."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.support.pbx import TOKEN, Site

TYPESCRIPT = """
import type { paths, components } from "./api";
type Body = paths["/v1/voicemail"]["post"]["requestBody"]["content"]["application/json"];
export const made: Body = { extension: "101", password: "abc123def", enabled: true, mail_to: null };
// @ts-expect-error: enabled is required
export const wrong: Body = { extension: "101", password: "abc123def" };
type Listed = paths["/v1/voicemail/message"]["get"]["responses"]["200"]["content"]["application/json"];
export const count = (page: Listed): number => page.data.map((message) => message.duration).length + page.total;
export const problem = (found: components["schemas"]["Problem"]): string[] => (found.errors ?? []).map((error) => error.field);
"""

PYTHON = """
import sys
from client import AuthenticatedClient
from client.api.mailbox import create_mailbox, get_mailbox, list_mailboxes
from client.models import MailboxIn

url, token, extension = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=token) as client:
    made = create_mailbox.sync(client=client, body=MailboxIn(extension=extension, password="4321", enabled=True))
    assert made.data.extension == extension, made
    assert get_mailbox.sync(extension, client=client).id == made.data.id
    assert list_mailboxes.sync(client=client, limit=1).limit == 1
    assert create_mailbox.sync(client=client, body=MailboxIn(extension="..", password="1", enabled=True)).status == 422
"""


async def run(*command: str, folder: Path) -> str:
    """Run a tool, which must succeed; what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def described(api: Site, folder: Path) -> str:
    """The description as a file."""
    file = folder / "openapi.json"
    file.write_text(json.dumps(await api.get("/openapi.json")))
    return str(file)


@pytest.mark.skipif(
    not (shutil.which("openapi-typescript") and shutil.which("tsc")), reason="openapi-typescript and tsc are not on PATH"
)
async def test_a_typescript_client_compiles(api: Site, tmp_path: Path) -> None:
    file = await described(api, tmp_path)
    (tmp_path / "use.ts").write_text(TYPESCRIPT)

    await run("openapi-typescript", file, "--output", "api.ts", folder=tmp_path)
    await run("tsc", "--noEmit", "--strict", "--skipLibCheck", "use.ts", folder=tmp_path)


@pytest.mark.skipif(shutil.which("openapi-python-client") is None, reason="openapi-python-client is not on PATH")
async def test_a_python_client_works(api: Site, extension: str, tmp_path: Path) -> None:
    file = await described(api, tmp_path)
    (tmp_path / "use.py").write_text(PYTHON)
    # It knows a binary body by this type alone.
    (tmp_path / "config.yml").write_text("content_type_overrides:\n  audio/wav: application/octet-stream\n")
    tool = shutil.which("openapi-python-client") or ""

    made = await run(
        tool, "generate", "--path", file, "--meta", "none", "--output-path", "client", "--config", "config.yml", folder=tmp_path
    )
    assert "omitted" not in made
    python = (Path(tool).resolve().parent / "python").as_posix()
    await run(python, "use.py", str(api.client._base_url).rstrip("/"), TOKEN, extension, folder=tmp_path)
