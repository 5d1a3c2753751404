"""Answers what happened to a message's mail."""

from dataclasses import dataclass

from app.access.grant import Grant
from app.access.scopes import EVERY
from app.addressing import Extension
from app.database.pool import Connection, Pool
from app.errors import Invalid, NotFound
from app.notifications import store as ledger
from app.notifications.model import Notification, Recipient
from app.notifications.notices import store as notices
from app.switch.tables.model import uuid_in

_ABSENT = "no mail was to be sent for such a message"


@dataclass(frozen=True, slots=True)
class History:
    """A notification with its recipients; those of a message that was announced in a digest are the digest's."""

    notification: Notification
    recipients: tuple[Recipient, ...]


class Notifications:
    """Reads the ledger; never changes it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of_message(self, grant: Grant, key: str, *, domain: str | None = None) -> History:
        """What is known of the mail of the message with this id, or else of the newest mail of the mailbox with this extension.

        An id is looked up in all of the grant's domains unless ``domain`` names one; an extension in that one or the default one.
        The message itself may be gone from the switch. Raises ``NotFound``, also if the message was not to be mailed.
        """
        id_ = uuid_in(key)
        asked = domain if id_ is None else domain or EVERY
        grant.reach(asked, absent=_ABSENT)  # a foreign domain costs no look-up, whatever the key
        async with self._pool.acquire() as connection:
            if id_ is None:
                found = await self._newest(connection, grant, key, domain)
            else:
                found = await ledger.within(connection, id_, grant.reach(asked))
            if found is None:
                raise NotFound(_ABSENT)
            if found.digest_id is not None:
                return History(found, tuple(await notices.recipients(connection, found.digest_id)))
            return History(found, tuple(await ledger.recipients(connection, found.id)))

    @staticmethod
    async def _newest(connection: Connection, grant: Grant, key: str, domain: str | None) -> Notification | None:
        try:
            extension = Extension.parse(key)
        except Invalid:
            return None
        return await ledger.newest_of_mailbox(connection, grant.reach(domain, extension), extension)
