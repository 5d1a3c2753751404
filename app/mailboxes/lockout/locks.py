"""Locking a mailbox and unlocking it again: each one transaction, after which the switch has something to learn.

The true PIN stays sealed in ``voicemail.mailbox``. A lock only changes what the switch is told, so it cannot lose the PIN.
"""

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import NOBODY, Grant
from app.addressing import MailboxAddress
from app.database.pool import Connection, Pool
from app.mailboxes import store
from app.mailboxes.directory import store as entries
from app.mailboxes.lockout import store as locks
from app.mailboxes.lockout.model import LockoutPolicy
from app.mailboxes.model import Mailbox

log = structlog.get_logger(__name__)


class MailboxLocks:
    """The locks of all mailboxes, in the table. What each call notes, ``DirectoryBatches`` brings to the switch."""

    def __init__(self, pool: Pool, policy: LockoutPolicy) -> None:
        self._pool = pool
        self._policy = policy

    async def lock(self, address: MailboxAddress) -> bool:
        """Lock a mailbox if too many logins failed and it is not locked; whether it was locked now."""
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = await store.lock(connection, address.domain, address.extension)
            made = await locks.lock(connection, mailbox.id, self._policy) if mailbox else None
            if mailbox is None or made is None:
                return False
            await entries.raise_revisions(connection, address.domain, [address.extension])
            await audit.insert(connection, [_by_service(Action.MAILBOX_LOCK, mailbox)])
        lock, times = made
        log.warning(
            "mailbox_locked",
            extension=address.extension,
            domain=address.domain,
            until=lock.until.isoformat(timespec="seconds"),
            times=times,
        )
        return True

    async def end(self, address: MailboxAddress, *, early: bool = False) -> bool:
        """Unlock a mailbox if its time is over, or ``early``; whether it was unlocked now."""
        async with self._pool.acquire() as connection, connection.transaction():
            mailbox = await store.lock(connection, address.domain, address.extension)
            if mailbox is None or not await locks.end(connection, mailbox.id, early=early):
                return False
            await entries.raise_revisions(connection, address.domain, [address.extension])
            await audit.insert(connection, [_by_service(Action.MAILBOX_UNLOCK, mailbox)])
        log.info("mailbox_unlocked", extension=address.extension, domain=address.domain, why="off" if early else "time")
        return True


async def release(connection: Connection, mailbox: Mailbox, by: Grant) -> bool:
    """In the caller's transaction, which holds the mailbox's row: unlock it now and count from nothing; whether it was locked."""
    ended = await locks.end(connection, mailbox.id, early=True)
    await locks.start_over(connection, mailbox.id)
    await audit.insert(connection, [AuditEntry.of(by, Action.MAILBOX_UNLOCK, mailbox=mailbox.address, target=mailbox.id)])
    if ended:
        log.info("mailbox_unlocked", extension=mailbox.address.extension, domain=mailbox.address.domain, why="asked")
    return ended


def _by_service(action: Action, mailbox: Mailbox) -> AuditEntry:
    return AuditEntry.of(NOBODY, action, mailbox=mailbox.address, target=mailbox.id)
