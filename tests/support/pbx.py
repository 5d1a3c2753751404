"""A whole PBX in miniature: the switch, the mail server and the service, all of it reached from outside only."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from app.config import Settings, load_settings
from app.sandbox.mail import MailCatcher
from app.sandbox.message_actions import LeftMessage
from app.sandbox.switch import StandInSwitch
from app.service import open_service
from tests.support.programs import CHECKOUT, voicemail

__all__ = ["CHECKOUT", "DOMAIN", "PATIENCE", "TOKEN", "Site", "Switch", "stand_in", "voicemail"]

DOMAIN = "lab.local"
TOKEN = "a-token-of-the-end-to-end-tests"
# Tests ask faster than any client, and often with wrong tokens; tests/api/test_limits.py has the limits of the settings.
UNLIMITED = {"failed_tokens_a_minute": 1_000_000, "requests_a_second": 1_000_000, "downloads_at_once": 1000}
PATIENCE = 15.0  # seconds for anything that happens by itself


class Switch(Protocol):
    """What the stand-in and a real FreeSWITCH have in common."""

    port: int
    password: str
    recordings: Path
    directory: Path

    async def start(self) -> None:
        """Start it, also again."""

    async def stop(self) -> None:
        """Stop it."""

    async def leave_message(
        self, extension: str, *, caller_name: str = ..., caller_number: str = ..., talking: float = ..., domain: str = ...
    ) -> LeftMessage:
        """Do what a caller does. Raises ``LookupError`` if the caller is turned away."""


class Site:
    """One PBX with its service, for as long as ``async with`` lasts."""

    def __init__(self, dsn: str, folder: Path, switch: Switch) -> None:
        self.dsn, self.folder, self.switch = dsn, folder, switch
        self.mail = MailCatcher()
        self.client: aiohttp.ClientSession
        self._stack = AsyncExitStack()

    async def open(self, **settings: Any) -> None:
        """Start everything."""
        await self.switch.start()
        self._stack.push_async_callback(self.switch.stop)
        await self.mail.start()
        self._stack.push_async_callback(self.mail.stop)
        service = await self._stack.enter_async_context(open_service(self.settings(**settings)))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = await self._stack.enter_async_context(aiohttp.ClientSession(service.local_url, headers=headers))

    async def close(self) -> None:
        """Stop everything."""
        await self._stack.aclose()

    def settings(self, **changed: Any) -> Settings:
        """The service's settings on this site."""
        return load_settings(**self._values(**changed))

    def environment(self, **changed: Any) -> dict[str, str]:
        """The same for a command in a process of its own; None leaves a variable out."""
        values = {f"VOICEMAIL_{name.upper()}": str(value) for name, value in self._values(**changed).items() if value is not None}
        return {**{name: value for name, value in os.environ.items() if not name.startswith("VOICEMAIL_")}, **values}

    def _values(self, **changed: Any) -> dict[str, Any]:
        return {
            "database_url": self.dsn, "data_dir": self.folder, "http_port": 0, "api_token": TOKEN, "domain": DOMAIN,
            "time_zone": "Asia/Ho_Chi_Minh", "esl_port": self.switch.port, "esl_password": self.switch.password,
            "directory_path": self.switch.directory,
            "recordings_path": self.switch.recordings, "smtp_host": "127.0.0.1", "smtp_port": self.mail.port,
            "mail_from": f"voicemail@{DOMAIN}", **UNLIMITED, **changed,
        }  # fmt: skip

    async def create(self, extension: str = "101", **fields: Any) -> dict[str, Any]:
        """A mailbox made by the API, as the API gives it back."""
        body = {"extension": extension, "password": "4321", "enabled": True, "mail_to": "tech@example.com"} | fields
        async with self.client.post("/v1/voicemail", json=body) as answer:
            assert answer.status == 201, await answer.text()
            mailbox: dict[str, Any] = (await answer.json())["data"]
            return mailbox

    async def get(self, path: str) -> dict[str, Any]:
        """What the API answers to a GET."""
        async with self.client.get(path) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def until(self, path: str, *, seconds: float = PATIENCE, **wanted: object) -> dict[str, Any]:
        """Ask until the answer has these values."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    async with self.client.get(path) as answer:
                        found = await answer.json()  # a problem, as long as there is nothing yet
                    if wanted.items() <= found.items():
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{path} never had {wanted}; it was {found}")


def stand_in(database: str, folder: Path) -> StandInSwitch:
    """The stand-in, not started, with folders of its own."""
    for name in ("recordings", "directory"):
        (folder / name).mkdir()
    return StandInSwitch(database, folder / "recordings", folder / "directory", DOMAIN)
