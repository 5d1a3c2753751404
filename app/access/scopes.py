"""The scopes of tokens; each route declares the scope that it needs."""

from enum import StrEnum


class Scope(StrEnum):
    """One permission. The names are part of the API and do not change."""

    MAILBOX_READ = "mailbox:read"
    MAILBOX_WRITE = "mailbox:write"
    PIN_READ = "pin:read"
    MESSAGE_READ = "message:read"
    MESSAGE_AUDIO = "message:audio"
    MESSAGE_WRITE = "message:write"
    NOTIFICATION_READ = "notification:read"
    NOTIFICATION_WRITE = "notification:write"
    EVENT_READ = "event:read"
    WEBHOOK_WRITE = "webhook:write"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)
EVERY = "*"  # written in place of a list of domains or scopes: all of them, also those that are added later
