"""The HTTP side of mail notifications: what became of the mail of a message."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.access.scopes import Scope
from app.http.domain_query import DomainQuery, named_domain
from app.http.routing import Request, get
from app.notifications.service import History, Notifications


class RecipientOut(BaseModel):
    """One recipient, and what the mail server last said of it."""

    address: str
    state: Annotated[
        Literal["pending", "unknown", "accepted", "refused"],
        Field(description="unknown: the mail was sent, and the server has not said whether it accepted it; it may have arrived"),
    ]
    code: Annotated[int | None, Field(description="of the SMTP reply; null: there was none")]
    reply: str
    settled_at: datetime | None


class RecordingFateOut(BaseModel):
    """What became of the recording after the mail."""

    state: Literal["kept", "deleting", "deleted"]
    detail: str


class NotificationOut(BaseModel):
    """The mail of one message."""

    id: UUID
    message_id: Annotated[UUID, Field(description="of the voicemail message; it may be gone")]
    extension: str
    domain: str
    state: Annotated[
        Literal["queued", "sent", "failed", "unknown", "cancelled", "digested"],
        Field(
            description="unknown: sent several times without an answer to say whether it was accepted; it is not sent again."
            " digested: announced in one mail with others, without the recording; recipients and mail_message_id are that mail's"
        ),
    ]
    detail: str
    attempts: int
    created_at: datetime
    next_try_at: Annotated[datetime | None, Field(description="null once it is settled")]
    settled_at: datetime | None
    mail_message_id: Annotated[str, Field(description="the Message-ID header of the mail, the same at every attempt")]
    local_after_email: bool
    recipients: list[RecipientOut]
    recording: RecordingFateOut


class NotificationRoutes:
    """Show the state of a message's mail; no route changes it."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    @get("/v1/voicemail/message/{key}/notification", scope=Scope.NOTIFICATION_READ, summary="Get what became of a message's mail")
    async def show(self, request: Request, query: DomainQuery) -> NotificationOut:
        """The notification of one message."""
        return _shown(await self._notifications.of_message(request.grant, request.path["key"], domain=query.domain))

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the notification of the path does not exist for the caller."""
        await self._notifications.of_message(request.grant, request.path["key"], domain=named_domain(request))


def _shown(history: History) -> NotificationOut:
    found = history.notification
    return NotificationOut(
        id=found.id,
        message_id=found.message_id,
        extension=found.extension,
        domain=found.domain,
        state=found.state.value,
        detail=found.detail,
        attempts=found.attempts,
        created_at=found.created_at,
        next_try_at=found.next_try_at if found.settled_at is None else None,
        settled_at=found.settled_at,
        mail_message_id=found.mail_message_id,
        local_after_email=found.local_after_email,
        recipients=[
            RecipientOut(address=r.address, state=r.state.value, code=r.code, reply=r.reply, settled_at=r.settled_at)
            for r in history.recipients
        ],
        recording=RecordingFateOut(state=found.recording_state.value, detail=found.recording_detail),
    )
