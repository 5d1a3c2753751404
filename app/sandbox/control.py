"""Calls to a running sandbox from another terminal: a port on this machine, whose number and secret are in the sandbox's folder.

A Unix socket would need no secret, but its path may have 107 bytes only, and the folder is the user's choice.
"""

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from app.addressing import Extension
from app.config import PREFIX
from app.errors import VoicemailError

_FILE = "control.json"
_LONGEST = 4096  # bytes of a line
_PATIENCE = 30.0  # seconds for a call and its answer

Call = Callable[[Extension], Awaitable[str]]


def sandbox_folder() -> Path:
    """Where the sandbox keeps everything."""
    return Path(os.environ.get(f"{PREFIX}DATA_DIR", "data")).absolute() / "sandbox"


@asynccontextmanager
async def controlled(folder: Path, call: Call) -> AsyncIterator[None]:
    """Take calls as long as the block. ``call`` leaves a message and says so; it raises ``VoicemailError`` if it cannot."""
    secret = secrets.token_urlsafe(24)
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            async with asyncio.timeout(_PATIENCE):
                writer.write(json.dumps(await _answer(await reader.readline(), secret, call)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the other side is gone, too slow, or sends something else than a line
        finally:
            under_way.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_LONGEST)
    file = folder / _FILE
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        json.dump({"port": server.sockets[0].getsockname()[1], "secret": secret}, opened)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        server.close()
        for task in tuple(under_way):
            task.cancel()


async def _answer(line: bytes, secret: str, call: Call) -> dict[str, str]:
    asked = json.loads(line)
    if not isinstance(asked, dict) or not hmac.compare_digest(str(asked.get("secret")).encode(), secret.encode()):
        raise ValueError("not by somebody who can read the folder")
    try:
        return {"said": await call(Extension.parse(str(asked.get("call"))))}
    except VoicemailError as error:
        return {"error": error.detail}


async def leave_message(extension: str) -> int:
    """Have the running sandbox's caller leave a message for this extension. Raises ``VoicemailError``."""
    parsed = Extension.parse(extension)
    folder = sandbox_folder()
    absent = VoicemailError(
        f"no sandbox runs in {folder}: start one with `voicemail sandbox` or `make run`; {PREFIX}DATA_DIR names another folder"
    )
    try:
        known = json.loads((folder / _FILE).read_text())
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", known["port"], limit=_LONGEST)
            try:
                writer.write(json.dumps({"secret": known["secret"], "call": parsed}).encode() + b"\n")
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
    except TimeoutError:
        raise VoicemailError(f"the sandbox in {folder} did not answer within {_PATIENCE:.0f} s") from None
    except PermissionError:
        raise VoicemailError(f"the sandbox in {folder} is another user's") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise absent from None
    if "error" in answer:
        raise VoicemailError(answer["error"])
    print(answer["said"])
    return 0
