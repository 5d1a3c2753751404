"""Whether a message may be removed after its mail: if every recipient's server accepted it, and the mailbox still wants that."""

from uuid import UUID

from app.database.pool import Connection
from app.mailboxes import store as mailboxes
from app.mailboxes.model import Mailbox
from app.messages.reasons import Reason
from app.notifications import store as ledger
from app.notifications.model import AFTER_MAIL, Notification, NotificationState, RecipientState


def kept_for(notification: Notification, mailbox: Mailbox | None) -> str:
    """Why the recording of an accepted mail is kept; ``""`` only if the mailbox wanted it deleted then and wants it now."""
    if notification.local_after_email:
        return "the mailbox keeps its recordings"
    if mailbox is None or mailbox.id != notification.mailbox_id:
        return "the mailbox was removed"
    if not mailbox.enabled:
        return "the mailbox is disabled"
    return "the mailbox keeps its recordings now" if mailbox.local_after_email else ""


async def _guard(connection: Connection, message_id: UUID) -> str:
    """Why the message must stay, as everything stands at this moment."""
    notification = await ledger.of_message(connection, message_id)
    if notification is None:
        return "there was no mail for the message"
    recipients = await ledger.recipients(connection, notification.id)
    accepted = recipients and all(recipient.state is RecipientState.ACCEPTED for recipient in recipients)
    if notification.state is not NotificationState.SENT or not accepted:
        return "the mail was not accepted for every recipient"
    return kept_for(notification, await mailboxes.find(connection, notification.domain, notification.extension))


REASON = Reason(AFTER_MAIL, _guard, only_unheard=True)
