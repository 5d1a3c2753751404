"""``voicemail sandbox``: the whole service on this machine alone, and one call to show that it works.

Embedded PostgreSQL, the stand-in switch, the mail catcher and the service itself share one process and one folder, which a
second start finds again. Nothing here is for production.
"""

import asyncio
import os
import secrets
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from app.addressing import Extension
from app.config import PREFIX, Settings, load_settings
from app.embedded.postgres import EmbeddedPostgres
from app.errors import VoicemailError
from app.http.port import check_port
from app.logs import configure_logging
from app.sandbox.control import controlled, sandbox_folder
from app.sandbox.folder import claimed
from app.sandbox.mail import CaughtMail, MailCatcher
from app.sandbox.switch import StandInSwitch
from app.service import open_service

DOMAIN = "lab.local"
_MAIL = 15.0  # seconds until the mail of a message must have come
MAILBOXES = (
    {"extension": "101", "password": "abc123def", "enabled": True, "mail_to": "tech@example.com", "description": "For Tech"},
    {"extension": "102", "password": "4711", "enabled": True, "mail_to": "", "description": "For Sales"},
)


def _say(text: str = "") -> None:
    print(text, flush=True)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is running, for the walk through it."""

    settings: Settings
    url: str  # as this machine reaches the service
    token: str
    switch: StandInSwitch
    mail: MailCatcher


async def sandbox(*, once: bool = False) -> int:
    """Run everything until Ctrl-C, or with ``once`` until one message was mailed; returns the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    folder = sandbox_folder()
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(folder))
        opening = asyncio.ensure_future(_open(folder, stack))
        if not await _before(opening, stop):
            return 130
        running = await opening
        showing = asyncio.ensure_future(_show(running))
        if await _before(showing, stop):
            await showing
            if not once:
                _curl_lines(running, folder)
                await stop.wait()
        _say("\nstopping …")
    _say("stopped")
    return 0


async def _before(work: "asyncio.Future[object] | asyncio.Future[Sandbox] | asyncio.Future[None]", stop: asyncio.Event) -> bool:
    """Whether the work ended before somebody asked to stop; work that did not is cancelled."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if work.done():
        return True
    work.cancel()
    await asyncio.wait({work})
    return False


async def _open(folder: Path, stack: AsyncExitStack) -> Sandbox:
    place = _settings(folder, token="-" * 32, database_url="postgresql://", esl_port=1, esl_password="", smtp_port=1)
    check_port(place.http_host, place.http_port)
    log = stack.enter_context((folder / "voicemail.log").open("a", buffering=1))
    configure_logging("info", stream=log, pretty=False)
    recordings, directory = folder / "recordings", folder / "directory"

    _say(f"[1/4] PostgreSQL in {folder / 'postgresql'} (the first start takes a few seconds) …")
    database_url = await stack.enter_async_context(EmbeddedPostgres(folder / "postgresql"))
    _say("[2/4] a stand-in switch that speaks the Event Socket protocol …")
    password = secrets.token_urlsafe(12)
    switch = StandInSwitch(database_url, recordings, directory, DOMAIN, password=password)
    await switch.start()
    stack.push_async_callback(switch.stop)
    _say("[3/4] a mail server that catches what is sent …")
    mail = MailCatcher(folder=folder / "mail")
    await mail.start()
    stack.push_async_callback(mail.stop)
    _say("[4/4] the service …")
    token = _kept_token(folder / "token")
    settings = _settings(
        folder, token=token, database_url=database_url, esl_port=switch.port, esl_password=password, smtp_port=mail.port
    )
    service = await stack.enter_async_context(open_service(settings))
    await stack.enter_async_context(controlled(folder, partial(_call, switch)))
    return Sandbox(settings, service.local_url, token, switch, mail)


def _settings(folder: Path, *, token: str, database_url: str, esl_port: int, esl_password: str, smtp_port: int) -> Settings:
    """The sandbox's settings; only the place of the API is the user's own."""
    # Not from .env, which may be a real service's.
    host, public_url = os.environ.get(f"{PREFIX}HTTP_HOST", "127.0.0.1"), os.environ.get(f"{PREFIX}PUBLIC_URL", "")
    return load_settings(
        database_url=database_url, switch_database_url=None, data_dir=folder, http_host=host,
        public_url=public_url, api_token=token, secret_key=None,
        domain=DOMAIN, esl_host="127.0.0.1", esl_port=esl_port, esl_password=esl_password, profile="default",
        directory_format="users", directory_path=folder / "directory", recordings_path=folder / "recordings",
        recordings_switch_path="", smtp_host="127.0.0.1", smtp_port=smtp_port, smtp_username="", smtp_password="",
        smtp_security="none", mail_from=f"voicemail@{DOMAIN}",
    )  # fmt: skip


def _kept_token(path: Path) -> str:
    """The sandbox's API token, made once, readable by its owner only."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


async def _show(running: Sandbox) -> None:
    """Create two mailboxes by the API, leave a message as a caller does, and show the mail and the message."""
    _say(f"\nready: {running.url}  (API description: {running.url}/docs)")
    headers = {"Authorization": f"Bearer {running.token}"}
    async with aiohttp.ClientSession(running.url, headers=headers, raise_for_status=False) as client:
        for mailbox in MAILBOXES:
            answer = await client.post("/v1/voicemail", json=mailbox)
            if answer.status not in (201, 409):
                raise VoicemailError(f"creating mailbox {mailbox['extension']} failed: {await answer.text()}")
            _say(f"mailbox {mailbox['extension']}: {'created' if answer.status == 201 else 'there already'}")
        before = len(running.mail.messages)
        _say("a caller leaves a message for 101 …")
        await running.switch.leave_message("101", caller_name="Alice Nguyễn", caller_number="0891234567")
        try:
            await running.mail.wait_for(before + 1, timeout=_MAIL)
        except TimeoutError:
            log = running.settings.data_dir / "voicemail.log"
            raise VoicemailError(f"no mail of this message came within {_MAIL:.0f} s; the log is {log}") from None
        _show_mail(running.mail.messages[-1])
        newest = await (await client.get("/v1/voicemail/message/101")).json()
        _say(f"in the API: message {newest['id']}, {newest['duration']} s, from {newest['caller_id_name']}")


async def _call(switch: StandInSwitch, extension: Extension) -> str:
    """What ``voicemail sandbox --call`` asks for from another terminal."""
    try:
        left = await switch.leave_message(extension, caller_name="Bob Tran", caller_number="0300555123")
    except LookupError as error:
        raise VoicemailError(f"{error}: the sandbox has no such mailbox, or it is disabled") from None
    said = f"a caller left a message for {extension}: {left.path}"
    _say(said)
    return said


def _show_mail(mail: CaughtMail) -> None:
    _say("\n---- the mail that went out " + "-" * 40)
    for name in ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"):
        _say(f"{name}: {mail.parsed[name]}")
    for part in mail.parsed.walk():
        if part.get_content_type() == "text/plain":
            _say("\n" + str(part.get_content()).strip())
        elif part.get_content_disposition() == "attachment":
            _say(f"\n[{part.get_filename()}: {part.get_content_type()}, {len(part.get_payload(decode=True) or b'')} bytes]")
    _say("-" * 68)


def _curl_lines(running: Sandbox, folder: Path) -> None:
    url, authorization = running.url, '-H "Authorization: Bearer $TOKEN"'
    new = '{"extension":"103","password":"2580","enabled":true,"mail_to":"ops@example.com"}'
    json_body = "-H 'Content-Type: application/json' -d"
    _say(f"""
token:     {running.token}
mails:     {folder / "mail"}        recordings: {running.settings.recordings_path}
the log:   {folder / "voicemail.log"}

TOKEN={running.token}
curl {authorization} '{url}/v1/voicemail?limit=10&offset=0'
curl {authorization} {url}/v1/voicemail/101
curl {authorization} {json_body} '{new}' {url}/v1/voicemail
curl {authorization} -X PUT {json_body} '{{"password":"1357","enabled":true}}' {url}/v1/voicemail/103
curl {authorization} -X DELETE {url}/v1/voicemail/103
curl {authorization} '{url}/v1/voicemail/message?extension=101'
curl {authorization} {url}/v1/voicemail/message/101
curl {authorization} -o message.wav $(curl -s {authorization} {url}/v1/voicemail/message/101 | grep -o 'http[^"]*/download')
curl {url}/readyz

Ctrl-C stops everything; the next start finds its data. One more call, in another terminal: voicemail sandbox --call 101""")
