"""The composition root: opens everything in order, hands it over by constructor, and closes it in reverse."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog

from app.access.limits import Limits
from app.access.part import open_access
from app.config import PREFIX, Settings
from app.domains.part import open_domains
from app.errors import DatabaseUnavailable, SettingsError, SwitchUnavailable, Unavailable, places_of
from app.greetings.part import open_greetings
from app.http.application import Door, build
from app.http.client import Clients
from app.http.health import Degraded, HealthRoutes, Readiness
from app.http.limits import ConnectionLimits, fit_descriptors
from app.http.metrics import Metrics
from app.http.port import check_port
from app.http.requests import RequestCounts
from app.http.server import listen
from app.jobs.sweep import Sweep
from app.mailboxes.part import open_mailboxes
from app.measures import job_gauges, measures_of
from app.messages.part import open_messages, open_removal
from app.notifications.announce import Announcer
from app.notifications.notices.dropped import DroppedAddresses
from app.notifications.part import open_notifications
from app.recordings.conversion import Conversion
from app.resources import Part, Resources, Run, end, make_data_dir, open_resources, why

log = structlog.get_logger(__name__)

_RESTART = 1.0  # seconds
# Our own tables are read, not only the server asked. After a failover the pool may have reached a standby.
_READ_ONLY = "SELECT current_setting('transaction_read_only') = 'on', EXISTS (SELECT FROM voicemail.mailbox)"
_LAST_REQUESTS = 1.0  # seconds for requests under way when the service stops


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: how clients reach it, and how this machine does."""

    url: str
    local_url: str


async def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT, and then stop within seconds; a second signal stops at once."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        asked.set()
        task.cancel()

    loop.set_exception_handler(_log_loop_error)
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)
    try:
        async with open_service(settings):
            # Freeze the existing objects. Otherwise each full garbage collection scans them and blocks the loop for 50 ms.
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

    Raises ``SettingsError`` for faults found at the start, such as a port in use, and ``SchemaError``.
    """
    check_port(settings.http_host, settings.http_port)
    make_data_dir(settings)
    async with AsyncExitStack() as stack:
        resources = await open_resources(settings, stack)
        limits = Limits(
            failures_a_minute=settings.failed_tokens_a_minute,
            requests_a_second=settings.requests_a_second,
            downloads_at_once=settings.downloads_at_once,
        )
        access, authenticator, refusals, idempotency = open_access(resources, limits.failures, stack)
        removal, phones, claims = open_removal(resources, stack)
        announcer = Announcer(resources.jobs, mail_from=settings.mail_from, per_hour=settings.mails_per_hour)
        conversion = Conversion()
        parts = [
            _basics(resources),
            access,
            await open_domains(resources),
            await open_mailboxes(resources, DroppedAddresses(resources.jobs, mail_from=settings.mail_from).tell),
            open_messages(resources, announcer.announce, removal=removal, phones=phones, claims=claims, conversion=conversion),
            open_greetings(resources, conversion),
            open_notifications(resources, removal, stack),
        ]
        _start(resources, parts, stack)
        door = Door(Clients(settings.trusted_proxies), authenticator, limits, refusals, idempotency)
        local_url = await _serve_http(resources, parts, door, stack)
        service = Service(settings.public_url or local_url, local_url)
        log.info("serving", url=service.url, listening=local_url, domain=resources.domain, version=_version())
        yield service
        log.info("stopping")


def _basics(resources: Resources) -> Part:
    """The checks and measures that belong to no capability."""

    tables = resources.switch.tables

    async def database() -> str:
        if await resources.pool.fetchval(_READ_ONLY):
            raise Degraded("answers, but takes no changes: it is read-only")
        return "answers"

    async def switch_tables() -> str:
        """Check that both of mod_voicemail's tables can be read; returns a remark for /readyz."""
        await tables.check("voicemail_msgs")
        try:
            await tables.check("voicemail_prefs")
        except DatabaseUnavailable:
            raise
        except Unavailable as error:
            raise Degraded(f"messages can be read, PINs set by phone are not seen: {error.detail}") from error
        return "can be read"

    async def switch() -> str:
        if not resources.switch.socket.connected:
            raise SwitchUnavailable(resources.switch.socket.error)
        return "connected"

    async def jobs() -> str:
        if not resources.jobs.connected:
            raise Unavailable("this process takes no jobs now")
        return "running"

    checks = {"database": database, "voicemail_tables": switch_tables, "switch": switch, "jobs": jobs}
    measures, gauges = measures_of(resources, _version()), (job_gauges(resources),)
    return Part(always=(resources.jobs.run,), checks=checks, measures=measures, table_gauges=gauges)


def _start(resources: Resources, parts: Sequence[Part], stack: AsyncExitStack) -> None:
    """Connect to the switch and run the background work. It ends before its resources are closed."""
    leading = [run for part in parts for run in part.leading]

    async def lead() -> None:
        async with asyncio.TaskGroup() as tasks:
            for run in leading:
                tasks.create_task(_forever(run))

    sweep = Sweep(resources.pool, resources.jobs, {name: due for part in parts for name, due in part.due.items()})
    resources.switch.socket.on_connect(sweep.wake)
    always = [sweep.run, *(run for part in parts for run in part.always)]
    resources.switch.socket.start()
    running = [asyncio.ensure_future(_forever(run)) for run in (*always, lambda: resources.leader.lead(lead))]
    stack.push_async_callback(end, *running)


async def _serve_http(resources: Resources, parts: Sequence[Part], door: Door, stack: AsyncExitStack) -> str:
    settings = resources.settings
    readiness = Readiness({name: check for part in parts for name, check in part.checks.items()})
    routes = [HealthRoutes(readiness), *(route for part in parts for route in part.routes)]
    counts = RequestCounts(resources.tracing)
    metrics = Metrics(
        {name: measure for part in parts for name, measure in part.measures.items()},
        [*counts.collectors, *(collector for part in parts for collector in part.collectors)],
        [gauges for part in parts for gauges in part.table_gauges],
    )
    application = build(
        routes,
        door,
        metrics if settings.metrics else None,
        counts,
        title="FreeSWITCH voicemail",
        version=_version(),
        docs=settings.docs,
    )
    limits = fit_descriptors(_limits(settings), mails_at_once=settings.mails_at_once)
    place = settings.http_host, settings.http_port
    try:
        host, port = await listen(application, *place, limits=limits, stack=stack, last_requests=_LAST_REQUESTS)
    except OSError as error:
        where = f"{place[0]} port {place[1]}"
        raise SettingsError.field(PREFIX + "HTTP_PORT", f"{where} cannot be listened on: {why(error)}") from None
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        head=settings.http_header_seconds,
        body=settings.http_body_seconds,
        idle=settings.http_idle_seconds,
        stall=settings.http_stall_seconds,
        connections=settings.http_connections,
        per_address=settings.http_connections_per_address,
        unlimited=settings.trusted_proxies,
    )


async def _forever(run: Run) -> None:
    """Run the work again after any fault of its own."""
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001
            # The text of an exception may quote private data, so only its type and place are logged.
            log.error("background_failed", error=type(error).__name__, at=places_of(error))
        await asyncio.sleep(_RESTART)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio would log with the text of an exception and the arguments of a callback, which may be what a client sent."""
    error = context.get("exception")
    facts = {"error": type(error).__name__, "at": places_of(error)} if isinstance(error, BaseException) else {}
    log.error("loop_error", **facts)


def _version() -> str:
    return version("freeswitch-voicemail")
