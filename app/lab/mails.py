"""Where the lab's mails arrive: mailpit, or the folder of the mail catcher."""

from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Protocol

import aiohttp


class Mails(Protocol):
    """A place of mails."""

    async def find(self, message_id: str) -> str | None:
        """The URL at which a person sees the mail with this Message-ID. None: no such mail has come."""


class Mailpit:
    """mailpit, asked by its API."""

    def __init__(self, client: aiohttp.ClientSession, public_url: str) -> None:
        """``client`` has mailpit's own base URL; ``public_url`` is how a browser reaches it."""
        self._client, self._public_url = client, public_url.rstrip("/")

    async def find(self, message_id: str) -> str | None:
        """Look among its newest mails. mailpit leaves the angle brackets out."""
        async with self._client.get("/api/v1/messages?limit=100", raise_for_status=True) as answer:
            found = await answer.json()
        for mail in found["messages"]:
            if str(mail["MessageID"]).strip("<>") == message_id.strip("<>"):
                return f"{self._public_url}/view/{mail['ID']}"
        return None


class MailFolder:
    """The ``.eml`` files of ``app.sandbox.mail.MailCatcher``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def find(self, message_id: str) -> str | None:
        """Look through the folder, newest first."""
        for path in sorted(self._folder.glob("*.eml"), reverse=True):
            if message_from_bytes(path.read_bytes(), policy=default)["Message-ID"] == message_id:
                return path.absolute().as_uri()
        return None
