"""A link to a message's recording as a value. It does not hold the text that opens it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it may be shown."""

    id: UUID
    message_id: UUID
    domain: str  # of the message
    token_id: UUID | None  # of the token that made it; None: VOICEMAIL_API_TOKEN
    made_by: str  # that token's name
    created_at: datetime
    expires_at: datetime
