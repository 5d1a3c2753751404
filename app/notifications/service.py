"""What became of a message's mail, for whoever asks."""

from dataclasses import dataclass
from uuid import UUID

from app.access.grant import Grant
from app.addressing import Domain, Extension
from app.database.pool import Connection, Pool
from app.errors import Invalid, NotFound
from app.notifications import store as ledger
from app.notifications.model import Notification, Recipient


@dataclass(frozen=True, slots=True)
class History:
    """A notification with its recipients."""

    notification: Notification
    recipients: tuple[Recipient, ...]


class Notifications:
    """Reads the ledger of one domain; never changes it."""

    def __init__(self, pool: Pool, domain: Domain) -> None:
        self._pool = pool
        self._domain = domain

    async def of_message(self, grant: Grant, key: str) -> History:
        """What is known of the mail of the message with this id, or else of the newest mail of the mailbox with this extension.

        The message itself may be gone from the switch. Raises ``NotFound``, also where the message was not to be mailed.
        """
        if grant.allows(self._domain):
            async with self._pool.acquire() as connection:
                found = await self._by_id(connection, key) or await self._by_extension(connection, key)
                if found is not None and found.domain == self._domain:
                    return History(found, tuple(await ledger.recipients(connection, found.id)))
        raise NotFound("no mail was to be sent for such a message")

    async def _by_id(self, connection: Connection, key: str) -> Notification | None:
        try:
            return await ledger.of_message(connection, UUID(key))
        except ValueError:
            return None

    async def _by_extension(self, connection: Connection, key: str) -> Notification | None:
        try:
            return await ledger.newest_of_mailbox(connection, self._domain, Extension.parse(key))
        except Invalid:
            return None
