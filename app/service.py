"""The composition root: opens everything in order, hands it over by constructor, and closes it in reverse."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import structlog
from aiohttp import web

from app.access import store as token_store
from app.access.authenticator import Authenticator
from app.access.cache import GrantCache
from app.access.changes import TokenChanges
from app.access.routes import TokenRoutes
from app.access.tokens import Tokens
from app.access.usage import TokenUsage
from app.config import PREFIX, Settings
from app.database.claims import Claims
from app.database.sweep import Sweep
from app.domains.routes import DomainRoutes
from app.domains.service import Domains
from app.errors import DatabaseUnavailable, SettingsError, SwitchUnavailable, Unavailable, places_of
from app.ground import Ground, end, make_data_dir, open_ground, when_database_answers, why
from app.http.application import build
from app.http.health import Check, Degraded, HealthRoutes, OneAtATime, Readiness
from app.mailboxes.batches import DirectoryBatches
from app.mailboxes.installation import made_id
from app.mailboxes.phone import PhonePins
from app.mailboxes.pins import PinCipher, load_or_create_key
from app.mailboxes.publish import DirectoryPublisher
from app.mailboxes.routes import MailboxRoutes
from app.mailboxes.service import Mailboxes
from app.mailboxes.upkeep import DirectoryUpkeep
from app.mailboxes.waiting import Outcomes
from app.mailboxes.watch import DirectoryWatch
from app.messages import removal_store
from app.messages.hearing import Hearing
from app.messages.indexes import Indexes
from app.messages.intake import Intake
from app.messages.orphans import Orphans
from app.messages.recorder import Recorder
from app.messages.removal import REMOVE, Removal
from app.messages.rendering import Rendering
from app.messages.rescue import Rescue
from app.messages.routes import MessageRoutes
from app.messages.service import Messages
from app.notifications import after_mail, ledger
from app.notifications.announce import Announcer
from app.notifications.compose import Composer
from app.notifications.mailer import Mailer
from app.notifications.model import NOTIFY
from app.notifications.recordings import Recordings
from app.notifications.routes import NotificationRoutes
from app.notifications.service import Notifications
from app.notifications.slots import SLOW_A_PLACE, Slots
from app.notifications.transport import SmtpTransport
from app.recordings.index import RecordingIndex
from app.recordings.remover import FileRemover
from app.recordings.watcher import RecordingWatcher
from app.switch.directory_files import FilesDirectory
from app.switch.directory_marks import Owner
from app.switch.esl import Event
from app.switch.mwi import MessageWaiting
from app.switch.tables import VoicemailTables

log = structlog.get_logger(__name__)

_REMOVALS_AT_ONCE = 5
_RESTART = 1.0  # seconds
# Our own tables are read, not only the server asked. After a failover the pool may have reached a standby.
_READ_ONLY = "SELECT current_setting('transaction_read_only') = 'on', EXISTS (SELECT FROM voicemail.mailbox)"
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
            # What is there now stays. Without this, each full garbage collection looks at all of it and holds the loop for 50 ms.
            gc.collect()
            gc.freeze()
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not asked.is_set():
            raise
    log.info("stopped")
    return 0


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """The whole service, serving HTTP inside the block. Waits for a database that is away.

    Raises ``SettingsError`` for what only shows now, as a port that is taken, and ``SchemaError``.
    """
    make_data_dir(settings)
    async with AsyncExitStack() as stack:
        ground = await open_ground(settings, stack)
        access, authenticator = _access(ground)
        parts = [_basics(ground), access, await _domains(ground), await _mailboxes(ground)]
        parts += [_messages(ground), _notifications(ground, stack)]
        _start(ground, parts, stack)
        url = await _serve_http(ground, parts, authenticator, stack)
        log.info("serving", url=url, domain=ground.domain, version=_version())
        yield Service(url)
        log.info("stopping")


def _basics(ground: Ground) -> _Parts:
    """What belongs to no capability."""

    tables = VoicemailTables(ground.switch_pool)

    async def database() -> str:
        if await ground.pool.fetchval(_READ_ONLY):
            raise Degraded("answers, but takes no changes: it is read-only")
        return "answers"

    async def switch_tables() -> str:
        await tables.check("voicemail_msgs")
        try:
            await tables.check("voicemail_prefs")
        except DatabaseUnavailable:
            raise
        except Unavailable as error:
            raise Degraded(f"messages can be read, PINs set by phone are not seen: {error.detail}") from error
        return "can be read"

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


def _access(ground: Ground) -> tuple[_Parts, Authenticator]:
    static = ground.settings.api_token
    tokens, cache = Tokens(ground.pool, ground.domain), GrantCache()
    usage = TokenUsage(partial(token_store.note_use, ground.pool))
    authenticator = Authenticator(
        tokens.find,
        cache,
        usage,
        static_token=static.get_secret_value() if static else None,
        default_domain=ground.domain,
    )
    always = (TokenChanges(ground.dsn, cache).run, usage.run)
    return _Parts(routes=(TokenRoutes(tokens),), always=always), authenticator


async def _domains(ground: Ground) -> _Parts:
    domains = Domains(ground.pool, ground.domain)
    await when_database_answers(domains.ensure_default)
    return _Parts(routes=(DomainRoutes(domains),))


async def _mailboxes(ground: Ground) -> _Parts:
    cipher = PinCipher(load_or_create_key(ground.settings.secret_key, ground.settings.data_dir))
    owner = await _owner(ground)
    directory = FilesDirectory(ground.settings.directory_path, ground.settings.directory_format, ground.switch, owner)
    phone = PhonePins(ground.pool, ground.domain, cipher, VoicemailTables(ground.switch_pool))
    outcomes = Outcomes()
    batches = DirectoryBatches(
        pool=ground.pool,
        domain=ground.domain,
        cipher=cipher,
        directory=directory,
        phone=phone,
        switch=ground.switch,
        outcomes=outcomes,
    )
    publisher = DirectoryPublisher(pool=ground.pool, domain=ground.domain, cipher=cipher, batches=batches)
    upkeep = DirectoryUpkeep(publisher)
    watch = DirectoryWatch(pool=ground.pool, owner=owner, directory=directory, publisher=publisher)
    mailboxes = Mailboxes(
        pool=ground.pool,
        domain=ground.domain,
        cipher=cipher,
        phone=phone,
        publisher=publisher,
        batches=batches,
        outcomes=outcomes,
    )
    await when_database_answers(mailboxes.check_key)
    ground.switch.on_event(phone.hear)
    ground.switch.on_connect(upkeep.wake)
    ground.switch.on_connect(batches.wake)

    async def writable() -> str:
        await directory.ready()
        await watch.check()
        return "writable"

    async def backlog() -> str:
        return str(await mailboxes.backlog())

    return _Parts(
        routes=(MailboxRoutes(mailboxes),),
        always=(batches.run,),
        leading=(upkeep.run, watch.run, phone.run),
        checks={"directory": OneAtATime(writable), "mailboxes": backlog},
    )


async def _owner(ground: Ground) -> Owner:
    """Whose the mailbox files of this process are."""
    found: list[str] = []

    async def ask() -> None:
        async with ground.pool.acquire() as connection:
            found.append(await made_id(connection))

    await when_database_answers(ask)
    return Owner(found[0], ground.domain)


def _removal(ground: Ground, stack: AsyncExitStack) -> Removal:
    claims = Claims(ground.dsn)
    stack.push_async_callback(claims.close)
    removal = Removal(
        pool=ground.pool,
        switch_pool=ground.switch_pool,
        jobs=ground.jobs,
        claims=claims,
        waiting=MessageWaiting(ground.switch, ground.settings.profile),
        files=FileRemover(ground.paths),
    )
    ground.jobs.register(REMOVE, removal.remove, concurrency=_REMOVALS_AT_ONCE)
    return removal


def _messages(ground: Ground) -> _Parts:
    settings = ground.settings
    announcer = Announcer(ground.jobs, mail_from=settings.mail_from)
    recorder = Recorder(ground.pool, ground.switch_pool, ground.paths, announcer.announce, max_age=settings.notify_max_age)
    index = RecordingIndex(ground.pool, ground.paths)
    intake = Intake(ground.pool, ground.switch_pool, recorder, index, ground.paths)
    watcher = RecordingWatcher(index, ground.paths, intake.hint_local)

    def hint(file_paths: Collection[str]) -> None:
        if ground.leader.leading:
            intake.hint(file_paths)

    hearing = Hearing(ground.pool, ground.paths, hint)
    rescue = Rescue(ground.pool, ground.switch_pool, ground.paths, ground.switch, intake.hint, profile=settings.profile)
    orphans = Orphans(ground.pool, ground.switch_pool, ground.paths, rescue)
    messages = Messages(ground.readers, ground.switch_readers, recorder, ground.paths, ground.domain)

    def hear(event: Event) -> None:
        hearing.hear(event)
        if ground.leader.leading:
            intake.wake()

    ground.switch.on_event(hear)
    ground.switch.on_connect(lambda: intake.wake(full=True))

    async def folder() -> str:
        await index.check_folder()
        without_row = f"; {orphans.count} recordings without a row" if orphans.count else ""
        return f"{settings.recordings_path}{without_row}"

    return _Parts(
        routes=(MessageRoutes(messages, Rendering(settings.zone), settings.public_url),),
        always=(hearing.run,),
        leading=(intake.run, watcher.run, rescue.run, orphans.run, Indexes(ground.switch_pool).run),
        checks={"recordings": OneAtATime(folder)},
    )


def _notifications(ground: Ground, stack: AsyncExitStack) -> _Parts:
    settings = ground.settings
    removal = _removal(ground, stack)
    slow = SLOW_A_PLACE * settings.mails_at_once
    transport = SmtpTransport(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value(),
        security=settings.smtp_security,
        connections=settings.mails_at_once + slow,
    )
    stack.push_async_callback(transport.close)
    claims = Claims(ground.dsn)
    stack.push_async_callback(claims.close)
    mailer = Mailer(
        pool=ground.pool,
        switch_pool=ground.switch_pool,
        jobs=ground.jobs,
        claims=claims,
        transport=transport,
        composer=Composer(sender=settings.mail_from),
        recordings=Recordings(ground.paths),
        removal=removal,
        zone=settings.zone,
        slots=Slots(slow=slow),
    )
    removal.register(after_mail.REASON)
    sweep = Sweep(ground.pool, ground.jobs, {NOTIFY: ledger.due, REMOVE: removal_store.due})
    stack.push_async_callback(mailer.close)
    ground.jobs.register(NOTIFY, mailer.deliver, concurrency=settings.mails_at_once)
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


async def _serve_http(ground: Ground, parts: Sequence[_Parts], authenticator: Authenticator, stack: AsyncExitStack) -> str:
    settings = ground.settings
    readiness = Readiness({name: check for part in parts for name, check in part.checks.items()})
    routes = [HealthRoutes(readiness), *(route for part in parts for route in part.routes)]
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
