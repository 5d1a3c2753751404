"""What commands do with mailboxes by themselves, whether or not a service runs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.access.command_line import operator
from app.access.grant import Grant
from app.config import Settings
from app.database.migrations import migrate
from app.domains.service import Domains
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.directory.installation import made_id
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.keys import load_or_create_keys
from app.mailboxes.pins.phone import PhonePins
from app.mailboxes.pins.rekey import Rekeying
from app.mailboxes.service import Mailboxes
from app.resources import make_data_dir, open_resources
from app.switch.directory.domains import DomainFolders


@dataclass(frozen=True, slots=True)
class MailboxAdministration:
    """What the operator's command line does with mailboxes and their PINs."""

    grant: Grant
    mailboxes: Mailboxes
    rekeying: Rekeying


@asynccontextmanager
async def open_mailboxes_offline(settings: Settings) -> AsyncIterator[MailboxAdministration]:
    """Mailboxes with a grant for everything; the switch is left to the running service, or to the next one.

    Raises ``SettingsError`` for another key, ``SchemaError`` and ``DatabaseFailed``.
    """
    make_data_dir(settings)
    if not settings.embedded:
        await migrate(settings.database_url.get_secret_value())  # now, because open_resources waits for a database that is away
    async with AsyncExitStack() as stack:
        resources = await open_resources(settings, stack)
        cipher = PinCipher(*load_or_create_keys(settings.secret_key, settings.data_dir))
        hosted = Domains(resources.pool, resources.domain)
        await hosted.ensure_default()
        async with resources.pool.acquire() as connection:
            installation = await made_id(connection)
        socket = resources.switch.socket  # never started
        folders = DomainFolders.of_settings(settings, socket, installation, makes=False)
        phone, waiters = PhonePins(resources.pool, cipher, resources.switch.tables), Waiters()
        batches = DirectoryBatches(
            pool=resources.pool, cipher=cipher, folders=folders, phone=phone, switch=socket, waiters=waiters
        )  # fmt: skip
        mailboxes = Mailboxes(
            pool=resources.pool,
            folders=folders,
            cipher=cipher,
            phone=phone,
            publisher=DirectoryPublisher(pool=resources.pool, only=folders.only, cipher=cipher, batches=batches),
            batches=batches,
            waiters=waiters,
            readings=resources.readings,
            switch_readers=resources.switch.readers,
        )
        await mailboxes.check_key()
        yield MailboxAdministration(
            operator(resources.domain), mailboxes, Rekeying(resources.pool, cipher, resources.switch.tables)
        )
