"""`make lab`: PostgreSQL, a real FreeSWITCH on freeswitch_conf, a mail catcher and the service, without containers."""

import asyncio
import fcntl
import os
import secrets
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from app.config import PREFIX, Settings, load_settings
from app.embedded.postgres import EmbeddedPostgres
from app.errors import VoicemailError
from app.lab.demo import Lab, demonstrate
from app.lab.freeswitch import FreeSwitch, find_freeswitch
from app.lab.mails import MailFolder
from app.logs import configure_logging
from app.sandbox.mail import MailCatcher
from app.sandbox.prompts import write_prompts
from app.service import open_service

DOMAIN = "lab.local"
CONFIGURATION = Path(__file__).parents[2] / "freeswitch_conf"
_FOLDERS = ("recordings", "directory", "prompts", "mail")


async def lab(*, once: bool = False) -> int:
    """Run the lab until Ctrl-C, or with ``once`` until the demonstration is over; returns the exit status."""
    program = find_freeswitch()
    if not CONFIGURATION.is_dir():
        raise VoicemailError("the lab runs from a checkout: freeswitch_conf is not in the package")
    task, loop, asked = asyncio.current_task(), asyncio.get_running_loop(), asyncio.Event()
    assert task is not None

    def stop() -> None:
        if not asked.is_set():  # a second Ctrl-C does not leave FreeSWITCH behind
            asked.set()
            task.cancel()

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)
    try:
        async with AsyncExitStack() as stack:
            await _open(program, stack)
            if not once:
                _say("Ctrl-C stops everything; the next start finds its data again.")
                await asyncio.Event().wait()
            _say("stopping …")
    except asyncio.CancelledError:
        if not asked.is_set():
            raise
    _say("stopped")
    return 0


async def _open(program: Path, stack: AsyncExitStack) -> None:
    folder = Path(os.environ.get(f"{PREFIX}DATA_DIR", "data")).absolute() / "lab"
    _claim(folder, stack)
    log = stack.enter_context((folder / "voicemail.log").open("a", buffering=1))
    configure_logging("info", stream=log, pretty=False)
    _say(f"[1/4] PostgreSQL in {folder / 'postgresql'} (the first start takes a few seconds) …")
    database_url = await stack.enter_async_context(EmbeddedPostgres(folder / "postgresql"))
    _say(f"[2/4] FreeSWITCH, {program}, with freeswitch_conf …")
    write_prompts(folder / "prompts")
    # Letters and digits: it becomes part of XML.
    password, token = secrets.token_hex(16), secrets.token_urlsafe(32)
    switch = await stack.enter_async_context(
        FreeSwitch(program, CONFIGURATION, folder, database_url=database_url, password=password, domain=DOMAIN)
    )
    _say(f"[3/4] a mail server that keeps what it gets in {folder / 'mail'} …")
    mail = MailCatcher(folder=folder / "mail")
    await mail.start()
    stack.push_async_callback(mail.stop)
    _say(f"[4/4] the service, which logs to {log.name} …\n")
    settings = _settings(folder, database_url, token, password, esl_port=switch.port, smtp_port=mail.port)
    service = await stack.enter_async_context(open_service(settings))
    place = Lab(service.url, service.url, token, "127.0.0.1", switch.port, password)
    await demonstrate(place, MailFolder(folder / "mail"))
    _say(f"  TOKEN={token}\n  curl -H \"Authorization: Bearer $TOKEN\" '{service.url}/v1/voicemail/message?extension=101'\n")


def _claim(folder: Path, stack: AsyncExitStack) -> None:
    """Make the lab's folders, and keep a second lab out of them. They hold calls and mails, so they are their user's alone."""
    folder.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)
    # Root's PostgreSQL runs as another user, who must get through to its own folder.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for name in _FOLDERS:
        (folder / name).mkdir(exist_ok=True)
    lock = stack.enter_context((folder / "lock").open("a"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise VoicemailError(f"a lab runs in {folder} already: stop it, or set {PREFIX}DATA_DIR to another folder") from None


def _settings(folder: Path, database_url: str, token: str, password: str, *, esl_port: int, smtp_port: int) -> Settings:
    return load_settings(
        database_url=database_url, switch_database_url=None, data_dir=folder, http_host="127.0.0.1", public_url="",
        api_token=token, secret_key=None, domain=DOMAIN, esl_host="127.0.0.1", esl_port=esl_port, esl_password=password,
        profile="default", directory_format="users", directory_path=folder / "directory", recordings_path=folder / "recordings",
        recordings_switch_path="", smtp_host="127.0.0.1", smtp_port=smtp_port, smtp_username="", smtp_password="",
        smtp_security="none", mail_from=f"voicemail@{DOMAIN}",
    )  # fmt: skip


def _say(text: str) -> None:
    print(text, flush=True)
