"""The composition root: opens everything in order, hands it over by constructor, and closes it in reverse."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import structlog
from aiohttp import web

from app.config import PREFIX, Settings
from app.database.migrations import migrate
from app.database.pool import close_pool, open_pool
from app.errors import SettingsError, SwitchUnavailable, Unavailable, places_of
from app.ground import Ground, end, make_data_dir, open_database, open_ground, when_database_answers, why
from app.http.application import build
from app.http.health import Check, HealthRoutes, Readiness
from app.http.tokens import Authenticator, TokenStore
from app.mailboxes.phone import PhonePins
from app.mailboxes.pins import PinCipher, load_or_create_key
from app.mailboxes.publish import DirectoryPublisher
from app.mailboxes.routes import MailboxRoutes
from app.mailboxes.service import Mailboxes
from app.mailboxes.upkeep import DirectoryUpkeep
from app.mailboxes.waiting import Outcomes
from app.messages.indexes import Indexes
from app.messages.intake import Intake
from app.messages.recorder import Recorder
from app.messages.rendering import Rendering
from app.messages.routes import MessageRoutes
from app.messages.service import Messages
from app.notifications.announce import Announcer
from app.notifications.claims import Claims
from app.notifications.compose import Composer
from app.notifications.mailer import Mailer
from app.notifications.model import NOTIFY, SETTLE
from app.notifications.recordings import Recordings
from app.notifications.routes import NotificationRoutes
from app.notifications.service import Notifications
from app.notifications.settle import Settler
from app.notifications.sweep import Sweep
from app.notifications.transport import SmtpTransport
from app.recordings.index import RecordingIndex
from app.recordings.watcher import RecordingWatcher
from app.switch.directory_files import FilesDirectory
from app.switch.esl import Event
from app.switch.tables import VoicemailTables

log = structlog.get_logger(__name__)

_MAILS_AT_ONCE, _DELETIONS_AT_ONCE = 10, 5
_RESTART = 1.0  # seconds
_LAST_REQUESTS = 1.0  # seconds for requests under way when the service stops

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    url: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a capability gives to the whole: its routes, what every copy runs, and what the leading one runs."""

    routes: tuple[object, ...] = ()
    always: tuple[Run, ...] = ()
    leading: tuple[Run, ...] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)


async def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT, and then stop within seconds; a second signal stops at once."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        asked.set()
        task.cancel()

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)
    try:
        async with open_service(settings):
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not asked.is_set():
            raise
    log.info("stopped")
    return 0


async def migrate_database(settings: Settings) -> list[str]:
    """Bring the schema up to date; the names of the migrations applied. Raises ``SchemaError`` or ``DatabaseUnavailable``."""
    async with open_database(settings) as dsn:
        return await migrate(dsn)


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[TokenStore]:
    """The API's tokens, also where no service runs. Raises as ``migrate_database`` does."""
    async with open_database(settings) as dsn:
        await migrate(dsn)
        pool = await open_pool(dsn, size=1, application_name="token")
        try:
            yield TokenStore(pool)
        finally:
            await close_pool(pool)


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """The whole service, serving HTTP inside the block. Waits for a database that is away.

    Raises ``SettingsError`` for what only shows now, as a port that is taken, and ``SchemaError``.
    """
    make_data_dir(settings)
    async with AsyncExitStack() as stack:
        ground = await open_ground(settings, stack)
        parts = [_basics(ground), await _mailboxes(ground), _messages(ground), _notifications(ground, stack)]
        _start(ground, parts, stack)
        url = await _serve_http(ground, parts, stack)
        log.info("serving", url=url, domain=ground.domain, version=_version())
        yield Service(url)
        log.info("stopping")


def _basics(ground: Ground) -> _Parts:
    """What belongs to no capability."""

    async def database() -> str:
        await ground.pool.fetchval("SELECT 1")
        return "answers"

    async def switch_tables() -> str:
        missing = await VoicemailTables(ground.switch_pool).missing()
        if missing:
            raise Unavailable("the switch has not created " + " and ".join(sorted(missing)) + " yet, or they lack columns")
        return "there"

    async def switch() -> str:
        if not ground.switch.connected:
            raise SwitchUnavailable(ground.switch.error)
        return "connected"

    async def jobs() -> str:
        if not ground.jobs.connected:
            raise Unavailable("this process takes no jobs now")
        return "running"

    checks = {"database": database, "voicemail_tables": switch_tables, "switch": switch, "jobs": jobs}
    return _Parts(always=(ground.jobs.run,), checks=checks)


async def _mailboxes(ground: Ground) -> _Parts:
    cipher = PinCipher(load_or_create_key(ground.settings.secret_key, ground.settings.data_dir))
    directory = FilesDirectory(ground.settings.directory_path, ground.settings.directory_format, ground.switch)
    phone = PhonePins(ground.pool, ground.domain, cipher, VoicemailTables(ground.switch_pool), ground.jobs)
    outcomes = Outcomes()
    publisher = DirectoryPublisher(
        pool=ground.pool,
        domain=ground.domain,
        cipher=cipher,
        directory=directory,
        phone=phone,
        jobs=ground.jobs,
        outcomes=outcomes,
    )
    publisher.register()
    upkeep = DirectoryUpkeep(publisher)
    mailboxes = Mailboxes(
        pool=ground.pool, domain=ground.domain, cipher=cipher, phone=phone, publisher=publisher, outcomes=outcomes
    )
    await when_database_answers(mailboxes.check_key)
    ground.switch.on_event(phone.hear)
    ground.switch.on_connect(upkeep.wake)

    async def writable() -> str:
        await directory.ready()
        return "writable"

    return _Parts(routes=(MailboxRoutes(mailboxes),), leading=(upkeep.run, phone.run), checks={"directory": writable})


def _messages(ground: Ground) -> _Parts:
    settings = ground.settings
    announcer = Announcer(ground.jobs, mail_from=settings.mail_from)
    recorder = Recorder(ground.pool, ground.switch_pool, ground.paths, announcer.announce, max_age=settings.notify_max_age)
    index = RecordingIndex(ground.pool, ground.paths)
    intake = Intake(ground.pool, ground.switch_pool, recorder, index)
    watcher = RecordingWatcher(index, ground.paths, intake.wake)
    messages = Messages(ground.readers, ground.switch_readers, recorder, ground.paths, ground.domain)

    def hear(_event: Event) -> None:
        if ground.leader.leading:
            intake.wake()

    ground.switch.on_event(hear)
    ground.switch.on_connect(lambda: intake.wake(full=True))

    async def folder() -> str:
        await index.check_folder()
        return str(settings.recordings_path)

    return _Parts(
        routes=(MessageRoutes(messages, Rendering(settings.zone), settings.public_url),),
        leading=(intake.run, watcher.run, Indexes(ground.switch_pool).run),
        checks={"recordings": folder},
    )


def _notifications(ground: Ground, stack: AsyncExitStack) -> _Parts:
    settings = ground.settings
    transport = SmtpTransport(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value(),
        security=settings.smtp_security,
        connections=_MAILS_AT_ONCE,
    )
    stack.push_async_callback(transport.close)
    claims = Claims(ground.dsn)
    stack.push_async_callback(claims.close)
    recordings = Recordings(ground.paths)
    mailer = Mailer(
        pool=ground.pool,
        switch_pool=ground.switch_pool,
        jobs=ground.jobs,
        claims=claims,
        transport=transport,
        composer=Composer(sender=settings.mail_from),
        recordings=recordings,
        zone=settings.zone,
    )
    settler = Settler(
        pool=ground.pool,
        switch_pool=ground.switch_pool,
        jobs=ground.jobs,
        claims=claims,
        switch=ground.switch,
        recordings=recordings,
        profile=settings.profile,
    )
    ground.jobs.register(NOTIFY, mailer.deliver, concurrency=_MAILS_AT_ONCE)
    ground.jobs.register(SETTLE, settler.settle, concurrency=_DELETIONS_AT_ONCE)
    sweep = Sweep(ground.pool, ground.jobs)
    ground.switch.on_connect(sweep.wake)

    async def mail() -> str:
        if trouble := await transport.probe():
            raise Unavailable(trouble)
        return "answers"

    routes = (NotificationRoutes(Notifications(ground.pool, ground.domain)),)
    return _Parts(routes=routes, always=(sweep.run,), checks={"mail": mail})


def _start(ground: Ground, parts: Sequence[_Parts], stack: AsyncExitStack) -> None:
    """Connect to the switch and run what runs; it ends before anything it uses is closed."""
    leading = [run for part in parts for run in part.leading]

    async def lead() -> None:
        async with asyncio.TaskGroup() as tasks:
            for run in leading:
                tasks.create_task(_forever(run))

    ground.switch.start()
    always = [run for part in parts for run in part.always]
    running = [asyncio.ensure_future(_forever(run)) for run in (*always, lambda: ground.leader.lead(lead))]
    stack.push_async_callback(end, *running)


async def _serve_http(ground: Ground, parts: Sequence[_Parts], stack: AsyncExitStack) -> str:
    settings = ground.settings
    token = settings.api_token.get_secret_value() if settings.api_token else None
    readiness = Readiness({name: check for part in parts for name, check in part.checks.items()})
    routes = [HealthRoutes(readiness), *(route for part in parts for route in part.routes)]
    authenticator = Authenticator(TokenStore(ground.pool), token)
    application = build(routes, authenticator, title="FreeSWITCH voicemail", version=_version())
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LAST_REQUESTS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
    except OSError as error:
        place = f"{settings.http_host} port {settings.http_port}"
        raise SettingsError.field(PREFIX + "HTTP_PORT", f"{place} cannot be listened on: {why(error)}") from None
    host, port = runner.addresses[0][:2]
    return settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _forever(run: Run) -> None:
    """What runs must outlive any fault of its own."""
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001
            # The text of an exception may quote what it choked on, so only its type and place are told.
            log.error("background_failed", error=type(error).__name__, at=places_of(error))
        await asyncio.sleep(_RESTART)


def _version() -> str:
    return version("freeswitch-voicemail")
