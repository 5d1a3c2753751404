"""The demonstration: a mailbox by the API, a call through the switch's dialplan, the mail of it, and where to see all three.

``python -m app.lab.demo`` does it once in the containers' lab, from the environment (docker-compose.yml). What is there
already is left alone, so a second run only says where everything is.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

from app.addressing import Extension
from app.errors import VoicemailError
from app.lab.mails import Mailpit, Mails
from app.switch.commands import call_dialplan
from app.switch.esl.event_socket import EventSocket

T = TypeVar("T")
MAILBOX = {"extension": "101", "password": "493817", "enabled": True, "mail_to": "tech@example.com", "description": "For Tech"}
CONTEXT = "lab"  # of freeswitch_conf/dialplan/lab.xml
CALLER_NAME, CALLER_NUMBER = "Alice Nguyễn", "0891234567"
_TALKING = 5  # seconds; the first of them goes by under the beep
_PATIENCE = 60.0  # seconds for anything that happens by itself
_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class Lab:
    """The lab's parts as this process reaches them, and the API as a person does."""

    api_url: str
    public_url: str
    token: str = field(repr=False)
    esl_host: str
    esl_port: int
    esl_password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """One message and the mail of it."""

    message: dict[str, Any]
    mail: str


async def demonstrate(lab: Lab, mails: Mails) -> None:
    """Show one call from mailbox to mail. Raises ``VoicemailError`` that names the step that failed."""
    async with aiohttp.ClientSession(lab.api_url, headers={"Authorization": f"Bearer {lab.token}"}) as client:
        api = _Api(client)
        _say(f"mailbox  {MAILBOX['extension']}, PIN {MAILBOX['password']}, mail to {MAILBOX['mail_to']}: {await _mailbox(api)}")
        if (seen := await _mailed(api, mails)) is None:
            _say(f"call     {CALLER_NAME} calls {MAILBOX['extension']} and talks for {_TALKING} seconds …")
            before = await _newest(api)
            await _call(lab)
            known = None if before is None else str(before["id"])
            seen = await _until("the mail of the call", lambda: _mailed(api, mails, besides=known))
    _show(lab, seen)


class _Api:
    """The few calls of the API that the demonstration makes."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def ask(self, method: str, path: str, body: object = None, *, fine: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """Status and JSON. An answer whose status is neither fine nor 404 is a failure; 503 is waited out."""

        async def once() -> tuple[int, Any] | None:
            async with self._client.request(method, path, json=body) as answer:
                if answer.status == 503:
                    return None
                if answer.status not in (*fine, 404):
                    raise VoicemailError(f"{method} {path} was answered {answer.status}: {await answer.text()}")
                return answer.status, await answer.json()

        return await _until(f"an answer of the API to {method} {path}", once)


async def _mailbox(api: _Api) -> str:
    """Make the mailbox and wait until the switch has it; returns whether it was there already."""
    status, _ = await api.ask("POST", "/v1/voicemail", MAILBOX, fine=(201, 409))

    async def applied() -> bool | None:
        _, found = await api.ask("GET", f"/v1/voicemail/{MAILBOX['extension']}")
        directory = found.get("directory") or {}
        if directory.get("state") == "failed":
            raise VoicemailError(f"the switch did not take the mailbox: {directory.get('detail')}")
        return True if directory.get("state") == "applied" else None

    await _until("the mailbox in the switch's directory", applied)
    return "made, and the switch has it" if status == 201 else "there already"


async def _newest(api: _Api) -> dict[str, Any] | None:
    status, found = await api.ask("GET", f"/v1/voicemail/message/{MAILBOX['extension']}")
    return None if status == 404 else found


async def _mailed(api: _Api, mails: Mails, *, besides: str | None = None) -> Seen | None:
    """The newest message with its mail; None: there is no message, it is the one of ``besides``, or its mail has not come."""
    message = await _newest(api)
    if message is None or message["id"] == besides:
        return None
    status, notification = await api.ask("GET", f"/v1/voicemail/message/{message['id']}/notification")
    if status == 404:
        return None
    if notification["state"] in ("failed", "unknown"):
        raise VoicemailError(f"the mail was not sent ({notification['state']}): {notification['recipients']}")
    mail = await mails.find(notification["mail_message_id"])
    return None if mail is None else Seen(message, mail)


async def _call(lab: Lab) -> None:
    command = call_dialplan(
        Extension.parse(str(MAILBOX["extension"])),
        CONTEXT,
        caller_name=CALLER_NAME,
        caller_number=CALLER_NUMBER,
        seconds=_TALKING,
    )
    socket = EventSocket(lab.esl_host, lab.esl_port, lab.esl_password)
    socket.start()
    try:
        if not await socket.wait_connected(_PATIENCE):
            raise VoicemailError(f"the switch's Event Socket cannot be used: {socket.error}")
        reply = await socket.command(command)
        if not reply.done:
            raise VoicemailError(f"the switch did not make the call: {reply.text.strip()}")
    finally:
        await socket.close()


async def _until(what: str, probe: Callable[[], Awaitable[T | None]]) -> T:
    """Ask until there is an answer, also through connections that fail. Raises ``VoicemailError`` after a minute."""
    trouble = ""
    try:
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    if (found := await probe()) is not None:
                        return found
                except aiohttp.ClientError as error:
                    trouble = f" ({type(error).__name__}: {error})"
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise VoicemailError(f"{what} did not come within {_PATIENCE:.0f} s{trouble}") from None


def _show(lab: Lab, seen: Seen) -> None:
    message = seen.message
    _say(f"message  {message['duration']} s from {message['caller_id_name']} <{message['caller_id_number']}>, mailed")
    _say(f"""
  the API, described  {lab.public_url}/docs
  the mailbox         {lab.public_url}/v1/voicemail/{MAILBOX["extension"]}
  the message         {lab.public_url}/v1/voicemail/message/{message["id"]}
  the mail            {seen.mail}
""")


def _say(text: str) -> None:
    print(text, flush=True)


async def _in_containers() -> None:
    env = os.environ
    lab = Lab(
        api_url=env["LAB_API_URL"], public_url=env["VOICEMAIL_PUBLIC_URL"].rstrip("/"), token=env["VOICEMAIL_API_TOKEN"],
        esl_host=env["VOICEMAIL_ESL_HOST"], esl_port=int(env["VOICEMAIL_ESL_PORT"]), esl_password=env["VOICEMAIL_ESL_PASSWORD"],
    )  # fmt: skip
    async with aiohttp.ClientSession(env["LAB_MAIL_URL"]) as client:
        await demonstrate(lab, Mailpit(client, env["LAB_MAIL_PUBLIC_URL"]))


def main() -> int:
    """Run the demonstration from the environment; the exit status is 1 if a step failed, for which there is a sentence."""
    try:
        asyncio.run(_in_containers())
    except KeyError as error:
        print(f"demo: {error.args[0]} is not set", file=sys.stderr)
        return 1
    except VoicemailError as error:
        print(f"demo: {error.detail}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
