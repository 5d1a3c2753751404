"""The resources that every part of the service uses: the database, the connection to the switch, jobs and leadership."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from app.access.audit.readings import Readings
from app.addressing import Domain
from app.config import PREFIX, Settings
from app.database.migrations import migrate
from app.database.pool import Pool, close_pool, keep_session, open_pool
from app.embedded.postgres import EmbeddedPostgres
from app.errors import DatabaseUnavailable, SettingsError
from app.jobs.loop import Trouble

if TYPE_CHECKING:  # a command that opens the resources needs no aiohttp, and one that opens the database neither queue nor switch
    from prometheus_client.registry import Collector

    from app.database.readers import Readers
    from app.http.health import Check
    from app.http.metrics import Measure, TableGauges
    from app.jobs.leader import Leader
    from app.jobs.queue import Jobs
    from app.jobs.sweep import Due
    from app.recordings.paths import RecordingPaths
    from app.recordings.storage import RecordingStorage
    from app.switch.switch import Switch
    from app.tracing import Tracing

log = structlog.get_logger(__name__)

_OWN_CONNECTIONS, _SWITCH_CONNECTIONS, _READERS = 20, 10, 8
_DATABASE_RETRY = 1.0  # seconds

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that all parts share."""

    settings: Settings
    domain: Domain
    dsn: str
    switch_dsn: str
    pool: Pool
    readings: "Readings"  # of PINs and audio, for the audit
    readers: "Readers"  # the same as the switch's if its tables are in our database
    jobs: "Jobs"
    tracing: "Tracing"
    leader: "Leader"
    switch: "Switch"
    paths: "RecordingPaths"
    storage: "RecordingStorage"


@dataclass(frozen=True, slots=True)
class Part:
    """What a capability gives to the whole: its routes, what every copy runs, what the leading copy runs, and its checks."""

    routes: tuple[object, ...] = ()
    always: tuple[Run, ...] = ()
    leading: tuple[Run, ...] = ()
    due: "Mapping[str, Due]" = field(default_factory=dict)  # by entrypoint: what the sweep queues
    measures: "Mapping[str, Measure]" = field(default_factory=dict)  # by their names in /metrics
    collectors: "tuple[Collector, ...]" = ()  # counters and histograms, made with registry=None
    table_gauges: "tuple[TableGauges, ...]" = ()
    checks: "Mapping[str, Check]" = field(default_factory=dict)


def make_data_dir(settings: Settings) -> None:
    """Make the data folder if anything is to be kept in it. Raises ``SettingsError``."""
    if settings.embedded or settings.secret_key is None:
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError.field(PREFIX + "DATA_DIR", f"{settings.data_dir} cannot be made: {why(error)}") from None
        if not os.access(settings.data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsError.field(PREFIX + "DATA_DIR", f"{settings.data_dir} cannot be written")


async def open_resources(settings: Settings, stack: AsyncExitStack) -> Resources:
    """Open everything that the parts share; ``stack`` closes it. Waits for a database that is away. Raises ``SchemaError``."""
    from app.database.readers import Readers
    from app.jobs.leader import Leader
    from app.jobs.queue import Jobs
    from app.recordings.paths import RecordingPaths
    from app.recordings.storage import RecordingStorage
    from app.switch.esl.event_socket import EventSocket
    from app.switch.switch import Switch
    from app.switch.tables.encoding import prepare_switch_connection, reset_switch_connection
    from app.tracing import open_tracing

    domain = Domain.parse(settings.domain)
    tracing = open_tracing(settings.otlp_endpoint, version("freeswitch-voicemail"), stack)
    dsn = await stack.enter_async_context(open_database(settings))
    await when_database_answers(lambda: migrate(dsn))
    switch_dsn = settings.switch_database_url.get_secret_value() if settings.switch_database_url else dsn
    pool = await open_pool(dsn, size=_OWN_CONNECTIONS, application_name="service", reset=keep_session)
    stack.push_async_callback(close_pool, pool)
    switch_pool = await open_pool(
        switch_dsn,
        size=_SWITCH_CONNECTIONS,
        application_name="messages",
        prepare=prepare_switch_connection,
        reset=reset_switch_connection,
    )
    stack.push_async_callback(close_pool, switch_pool)
    switch_readers = Readers(switch_dsn, size=_READERS, application_name="lists", prepare=prepare_switch_connection)
    stack.push_async_callback(switch_readers.close)
    readers = switch_readers if switch_dsn == dsn else Readers(dsn, size=_READERS, application_name="readers")
    stack.push_async_callback(readers.close)
    socket = EventSocket(settings.esl_host, settings.esl_port, settings.esl_password.get_secret_value())
    stack.push_async_callback(socket.close)
    paths = RecordingPaths(settings.recordings_path, settings.recordings_root_on_switch)
    return Resources(
        settings=settings,
        domain=domain,
        dsn=dsn,
        switch_dsn=switch_dsn,
        pool=pool,
        readings=Readings(pool),
        readers=readers,
        jobs=Jobs(dsn, tracing=tracing),
        tracing=tracing,
        leader=Leader(dsn),
        switch=Switch(socket, settings.profile, switch_pool, switch_readers),
        paths=paths,
        storage=RecordingStorage(paths, refuse_hard_links=settings.recordings_refuse_hard_links),
    )


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[str]:
    """The DSN of our database; that of an embedded server, which runs as long as the block, if the settings ask for it."""
    if not settings.embedded:
        yield settings.database_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(settings.data_dir / "postgresql")
    async with embedded as dsn:
        reviving = asyncio.ensure_future(embedded.run())
        try:
            yield dsn
        finally:
            await end(reviving)


async def when_database_answers(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the database is there; any other fault of it ends the start."""
    trouble = Trouble("database")
    while True:
        try:
            await ask()
        except DatabaseUnavailable as error:
            trouble.tell_error(error)
        else:
            trouble.over()
            return
        await asyncio.sleep(_DATABASE_RETRY)


async def end(*running: "asyncio.Future[None]") -> None:
    """Cancel the tasks and wait until they have ended."""
    for task in running:
        task.cancel()
    await asyncio.wait(running)


def why(error: OSError) -> str:
    """The system's message of an error, without text that a library added."""
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
