"""The work of commands on the database and the switch that needs no running service.

Each function loads the rest of the program only as far as it needs it: most of a command's time is its start.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.access.audit.service import Audit
from app.access.command_line import operator
from app.access.grant import Grant
from app.access.tokens import Tokens
from app.addressing import Domain
from app.config import Settings
from app.database.migrations import migrate
from app.database.pool import close_pool, open_pool
from app.domains.service import Domains
from app.resources import make_data_dir, open_database, open_resources

if TYPE_CHECKING:
    from app.mailboxes.directory.adopt import Adoption
    from app.mailboxes.lockout.release import Unlocking
    from app.messages.orphans import Orphans

_SWITCH_CONNECTS = 5.0  # seconds within which a running switch accepts the login


async def migrate_database(settings: Settings) -> list[str]:
    """Bring the schema up to date; the names of the migrations applied. Raises ``SchemaError`` or ``DatabaseUnavailable``."""
    async with open_database(settings) as dsn:
        return await migrate(dsn)


@dataclass(frozen=True, slots=True)
class Administration:
    """What the operator's command line works with, also while no service runs."""

    grant: Grant
    tokens: Tokens
    domains: Domains
    audit: Audit


@asynccontextmanager
async def open_administration(settings: Settings) -> AsyncIterator[Administration]:
    """Tokens and domains, with a grant for everything. Raises as ``migrate_database`` does."""
    domain = Domain.parse(settings.domain)
    async with open_database(settings) as dsn:
        await migrate(dsn)
        pool = await open_pool(dsn, size=1, application_name="command")
        try:
            hosted = Domains(pool, domain)
            await hosted.ensure_default()
            yield Administration(operator(domain), Tokens(pool, domain), hosted, Audit(pool))
        finally:
            await close_pool(pool)


@asynccontextmanager
async def open_unlocking(settings: Settings) -> AsyncIterator["Unlocking"]:
    """Unlocks mailboxes; a running service tells the switch within a second. Raises as ``migrate_database`` does."""
    from app.mailboxes.lockout.release import Unlocking

    async with open_database(settings) as dsn:
        await migrate(dsn)
        pool = await open_pool(dsn, size=1, application_name="command")
        try:
            yield Unlocking(pool, operator(Domain.parse(settings.domain)))
        finally:
            await close_pool(pool)


@asynccontextmanager
async def open_adoption(settings: Settings) -> AsyncIterator["list[Adoption]"]:
    """The files that could be adopted, for each domain. Raises as ``migrate_database`` does, and ``SettingsError``."""
    from app.mailboxes.directory.adopt import Adoption
    from app.mailboxes.directory.installation import domains, made_id
    from app.mailboxes.pins.cipher import PinCipher
    from app.mailboxes.pins.keys import load_or_create_keys
    from app.mailboxes.pins.rekey import check_key
    from app.switch.directory.domains import DomainFolders
    from app.switch.esl.event_socket import EventSocket

    make_data_dir(settings)
    domain = Domain.parse(settings.domain)
    async with open_database(settings) as dsn:
        await migrate(dsn)
        pool = await open_pool(dsn, size=2, application_name="adopt")
        try:
            cipher = PinCipher(*load_or_create_keys(settings.secret_key, settings.data_dir))
            await check_key(pool, cipher)
            await Domains(pool, domain).ensure_default()
            async with pool.acquire() as connection:
                installation, known = await made_id(connection), await domains(connection)
            switch = EventSocket(settings.esl_host, settings.esl_port, settings.esl_password.get_secret_value())  # never started
            folders = DomainFolders.of_settings(settings, switch, installation)
            yield [
                Adoption(
                    pool=pool,
                    owner=folders.owner(one),
                    cipher=cipher,
                    directory=folders.of(one),
                    style=settings.directory_format,
                    by=operator(domain),
                )
                for one in known
                if folders.serves(one)
            ]
        finally:
            await close_pool(pool)


@dataclass(frozen=True, slots=True)
class OrphanWork:
    """What ``voicemail recording orphans`` works with."""

    grant: Grant
    orphans: "Orphans"


@asynccontextmanager
async def open_orphans(settings: Settings) -> AsyncIterator[OrphanWork]:
    """The recordings without a row, also if no service runs. Raises as ``migrate_database`` does."""
    from app.messages.orphans import Orphans
    from app.messages.rescue import Rescue

    async with AsyncExitStack() as stack:
        resources = await open_resources(settings, stack)
        resources.switch.socket.start()
        await resources.switch.socket.wait_connected(_SWITCH_CONNECTS)
        rescue = Rescue(resources.pool, resources.switch, resources.storage, lambda _: None)
        orphans = Orphans(resources.pool, resources.switch.pool, resources.storage, rescue)
        yield OrphanWork(operator(resources.domain), orphans)
