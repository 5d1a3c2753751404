"""Wires mailboxes."""

from app.http.health import OneAtATime
from app.mailboxes.directory.batches import DirectoryBatches
from app.mailboxes.directory.gauges import directory_gauges
from app.mailboxes.directory.installation import made_id
from app.mailboxes.directory.publisher import DirectoryPublisher
from app.mailboxes.directory.upkeep import DirectoryUpkeep
from app.mailboxes.directory.waiters import Waiters
from app.mailboxes.directory.watch import DirectoryWatch
from app.mailboxes.lockout.gauges import lockout_gauges
from app.mailboxes.lockout.guard import LoginGuard
from app.mailboxes.lockout.locks import MailboxLocks
from app.mailboxes.lockout.model import LockoutPolicy
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.pins.keys import load_or_create_keys
from app.mailboxes.pins.phone import PhonePins
from app.mailboxes.recipients import Dropped
from app.mailboxes.routes import MailboxRoutes
from app.mailboxes.service import Mailboxes
from app.resources import Part, Resources, when_database_answers
from app.switch.directory.domains import DomainFolders


async def open_mailboxes(resources: Resources, tell_dropped: Dropped) -> Part:
    """Mailboxes, their way into the switch's directory, and their PINs. Raises ``SettingsError`` for another key."""
    cipher = PinCipher(*load_or_create_keys(resources.settings.secret_key, resources.settings.data_dir))
    folders = DomainFolders.of_settings(resources.settings, resources.switch.socket, await _installation(resources))
    phone = PhonePins(resources.pool, cipher, resources.switch.tables)
    waiters = Waiters()
    batches = DirectoryBatches(
        pool=resources.pool,
        cipher=cipher,
        folders=folders,
        phone=phone,
        switch=resources.switch.socket,
        waiters=waiters,
    )
    publisher = DirectoryPublisher(pool=resources.pool, only=folders.only, cipher=cipher, batches=batches)
    upkeep = DirectoryUpkeep(publisher)
    watch = DirectoryWatch(pool=resources.pool, folders=folders, publisher=publisher)
    settings = resources.settings
    policy = LockoutPolicy(settings.lockout_attempts, settings.lockout_window, settings.lockout_first, settings.lockout_longest)
    locks = MailboxLocks(resources.pool, policy)
    guard = LoginGuard(pool=resources.pool, policy=policy, locks=locks, phone=phone, batches=batches)
    mailboxes = Mailboxes(
        pool=resources.pool,
        folders=folders,
        cipher=cipher,
        phone=phone,
        publisher=publisher,
        batches=batches,
        waiters=waiters,
        readings=resources.readings,
        tell_dropped=tell_dropped,
        switch_readers=resources.switch.readers,
    )
    await when_database_answers(mailboxes.check_key)
    resources.switch.socket.on_event(phone.hear)
    resources.switch.socket.on_event(guard.hear)
    resources.switch.socket.on_connect(upkeep.wake)
    resources.switch.socket.on_connect(batches.wake)

    async def writable() -> str:
        await watch.check()
        return "writable"

    async def backlog() -> str:
        return str(await mailboxes.backlog())

    return Part(
        routes=(MailboxRoutes(mailboxes),),
        always=(batches.run, guard.run),
        leading=(upkeep.run, watch.run, phone.run),
        collectors=(folders.reloader.seconds,),
        table_gauges=(*directory_gauges(resources.pool), lockout_gauges(resources.pool)),
        checks={"directory": OneAtATime(writable), "mailboxes": backlog},
    )


async def _installation(resources: Resources) -> str:
    """The owner that this process writes into its mailbox files."""
    found: list[str] = []

    async def ask() -> None:
        async with resources.pool.acquire() as connection:
            found.append(await made_id(connection))

    await when_database_answers(ask)
    return found[0]
