"""The lock over a mailbox's greetings, in the service's own database."""

from app.addressing import MailboxAddress
from app.database.pool import Connection

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('voicemail greetings of ' || $1, 0))"


async def lock(connection: Connection, address: MailboxAddress) -> None:
    """Until the transaction ends nobody else changes these greetings, in any process."""
    await connection.execute(LOCK, str(address))
