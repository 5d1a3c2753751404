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
from app.domains.routes import DomainRoutes
from app.domains.service import Domains
from app.errors import DatabaseUnavailable, SettingsError, SwitchUnavailable, Unavailable, places_of
from app.http.application import build
from app.http.health import Check, Degraded, HealthRoutes, OneAtATime, Readiness
from app.jobs.claims import Claims
from app.jobs.sweep import Sweep
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.directory.installation import made_id
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.mailboxes.directory.upkeep import DirectoryUpkeep
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.directory.watch import DirectoryWatch
from app.mailboxes.pins.cipher import PinCipher, load_or_create_key
from app.mailboxes.pins.phone import PhonePins
from app.mailboxes.routes import MailboxRoutes
from app.mailboxes.service import Mailboxes
from app.messages import removal_store
from app.messages.hearing import Hearing
from app.messages.intake import Intake
from app.messages.orphans import Orphans
from app.messages.registry import Registry
from app.messages.removal import REMOVE, Removal
from app.messages.rendering import Rendering
from app.messages.rescue import Rescue
from app.messages.routes import MessageRoutes
from app.messages.service import Messages
from app.notifications import after_mail
from app.notifications import store as ledger
from app.notifications.announce import Announcer
from app.notifications.deliver import Mailer
from app.notifications.mail.compose import Composer
from app.notifications.mail.pool import SmtpTransport
from app.notifications.model import NOTIFY
from app.notifications.recordings import Recordings
from app.notifications.routes import NotificationRoutes
from app.notifications.service import Notifications
from app.notifications.slots import SLOW_A_PLACE, Slots
from app.recordings.index import RecordingIndex
from app.recordings.remover import FileRemover
from app.recordings.watcher import RecordingWatcher
from app.resources import Resources, end, make_data_dir, open_resources, when_database_answers, why
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner
from app.switch.esl.event_socket import Event
from app.switch.mwi import MessageWaiting
from app.switch.tables.indexes import Indexes
from app.switch.tables.prefs import VoicemailTables

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
        resources = await open_resources(settings, stack)
        access, authenticator = _access(resources)
        parts = [_basics(resources), access, await _domains(resources), await _mailboxes(resources)]
        parts += [_messages(resources), _notifications(resources, stack)]
        _start(resources, parts, stack)
        url = await _serve_http(resources, parts, authenticator, stack)
        log.info("serving", url=url, domain=resources.domain, version=_version())
        yield Service(url)
        log.info("stopping")


def _basics(resources: Resources) -> _Parts:
    """What belongs to no capability."""

    tables = VoicemailTables(resources.switch_pool)

    async def database() -> str:
        if await resources.pool.fetchval(_READ_ONLY):
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
        if not resources.switch.connected:
            raise SwitchUnavailable(resources.switch.error)
        return "connected"

    async def jobs() -> str:
        if not resources.jobs.connected:
            raise Unavailable("this process takes no jobs now")
        return "running"

    checks = {"database": database, "voicemail_tables": switch_tables, "switch": switch, "jobs": jobs}
    return _Parts(always=(resources.jobs.run,), checks=checks)


def _access(resources: Resources) -> tuple[_Parts, Authenticator]:
    static = resources.settings.api_token
    tokens, cache = Tokens(resources.pool, resources.domain), GrantCache()
    usage = TokenUsage(partial(token_store.note_use, resources.pool))
    authenticator = Authenticator(
        tokens.find,
        cache,
        usage,
        static_token=static.get_secret_value() if static else None,
        default_domain=resources.domain,
    )
    always = (TokenChanges(resources.dsn, cache).run, usage.run)
    return _Parts(routes=(TokenRoutes(tokens),), always=always), authenticator


async def _domains(resources: Resources) -> _Parts:
    domains = Domains(resources.pool, resources.domain)
    await when_database_answers(domains.ensure_default)
    return _Parts(routes=(DomainRoutes(domains),))


async def _mailboxes(resources: Resources) -> _Parts:
    cipher = PinCipher(load_or_create_key(resources.settings.secret_key, resources.settings.data_dir))
    owner = await _owner(resources)
    directory = FilesDirectory(resources.settings.directory_path, resources.settings.directory_format, resources.switch, owner)
    phone = PhonePins(resources.pool, resources.domain, cipher, VoicemailTables(resources.switch_pool))
    waiters = Waiters()
    batches = DirectoryBatches(
        pool=resources.pool,
        domain=resources.domain,
        cipher=cipher,
        directory=directory,
        phone=phone,
        switch=resources.switch,
        waiters=waiters,
    )
    publisher = DirectoryPublisher(pool=resources.pool, domain=resources.domain, cipher=cipher, batches=batches)
    upkeep = DirectoryUpkeep(publisher)
    watch = DirectoryWatch(pool=resources.pool, owner=owner, directory=directory, publisher=publisher)
    mailboxes = Mailboxes(
        pool=resources.pool,
        domain=resources.domain,
        cipher=cipher,
        phone=phone,
        publisher=publisher,
        batches=batches,
        waiters=waiters,
    )
    await when_database_answers(mailboxes.check_key)
    resources.switch.on_event(phone.hear)
    resources.switch.on_connect(upkeep.wake)
    resources.switch.on_connect(batches.wake)

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


async def _owner(resources: Resources) -> Owner:
    """Whose the mailbox files of this process are."""
    found: list[str] = []

    async def ask() -> None:
        async with resources.pool.acquire() as connection:
            found.append(await made_id(connection))

    await when_database_answers(ask)
    return Owner(found[0], resources.domain)


def _removal(resources: Resources, stack: AsyncExitStack) -> Removal:
    claims = Claims(resources.dsn)
    stack.push_async_callback(claims.close)
    removal = Removal(
        pool=resources.pool,
        switch_pool=resources.switch_pool,
        jobs=resources.jobs,
        claims=claims,
        waiting=MessageWaiting(resources.switch, resources.settings.profile),
        files=FileRemover(resources.paths),
    )
    resources.jobs.register(REMOVE, removal.remove, concurrency=_REMOVALS_AT_ONCE)
    return removal


def _messages(resources: Resources) -> _Parts:
    settings = resources.settings
    announcer = Announcer(resources.jobs, mail_from=settings.mail_from)
    registry = Registry(
        resources.pool, resources.switch_pool, resources.paths, announcer.announce, max_age=settings.notify_max_age
    )
    index = RecordingIndex(resources.pool, resources.paths)
    intake = Intake(resources.pool, resources.switch_pool, registry, index, resources.paths)
    watcher = RecordingWatcher(index, resources.paths, intake.hint_local)

    def hint(file_paths: Collection[str]) -> None:
        if resources.leader.leading:
            intake.hint(file_paths)

    hearing = Hearing(resources.pool, resources.paths, hint)
    rescue = Rescue(
        resources.pool, resources.switch_pool, resources.paths, resources.switch, intake.hint, profile=settings.profile
    )
    orphans = Orphans(resources.pool, resources.switch_pool, resources.paths, rescue)
    messages = Messages(resources.readers, resources.switch_readers, registry, resources.paths, resources.domain)

    def hear(event: Event) -> None:
        hearing.hear(event)
        if resources.leader.leading:
            intake.wake()

    resources.switch.on_event(hear)
    resources.switch.on_connect(lambda: intake.wake(full=True))

    async def folder() -> str:
        await index.check_folder()
        without_row = f"; {orphans.count} recordings without a row" if orphans.count else ""
        return f"{settings.recordings_path}{without_row}"

    return _Parts(
        routes=(MessageRoutes(messages, Rendering(settings.zone), settings.public_url),),
        always=(hearing.run,),
        leading=(intake.run, watcher.run, rescue.run, orphans.run, Indexes(resources.switch_pool).run),
        checks={"recordings": OneAtATime(folder)},
    )


def _notifications(resources: Resources, stack: AsyncExitStack) -> _Parts:
    settings = resources.settings
    removal = _removal(resources, stack)
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
    claims = Claims(resources.dsn)
    stack.push_async_callback(claims.close)
    mailer = Mailer(
        pool=resources.pool,
        switch_pool=resources.switch_pool,
        jobs=resources.jobs,
        claims=claims,
        transport=transport,
        composer=Composer(sender=settings.mail_from),
        recordings=Recordings(resources.paths),
        removal=removal,
        zone=settings.zone,
        slots=Slots(slow=slow),
    )
    removal.register(after_mail.REASON)
    sweep = Sweep(resources.pool, resources.jobs, {NOTIFY: ledger.due, REMOVE: removal_store.due})
    stack.push_async_callback(mailer.close)
    resources.jobs.register(NOTIFY, mailer.deliver, concurrency=settings.mails_at_once)
    resources.switch.on_connect(sweep.wake)

    async def mail() -> str:
        if trouble := await transport.probe():
            raise Unavailable(trouble)
        return "answers"

    routes = (NotificationRoutes(Notifications(resources.pool, resources.domain)),)
    return _Parts(routes=routes, always=(sweep.run,), checks={"mail": mail})


def _start(resources: Resources, parts: Sequence[_Parts], stack: AsyncExitStack) -> None:
    """Connect to the switch and run what runs; it ends before anything it uses is closed."""
    leading = [run for part in parts for run in part.leading]

    async def lead() -> None:
        async with asyncio.TaskGroup() as tasks:
            for run in leading:
                tasks.create_task(_forever(run))

    resources.switch.start()
    always = [run for part in parts for run in part.always]
    running = [asyncio.ensure_future(_forever(run)) for run in (*always, lambda: resources.leader.lead(lead))]
    stack.push_async_callback(end, *running)


async def _serve_http(resources: Resources, parts: Sequence[_Parts], authenticator: Authenticator, stack: AsyncExitStack) -> str:
    settings = resources.settings
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
