"""Links to recordings: whoever has one may hear the recording, without a token, until it expires or is revoked.

A link's text is 256 random bits, of which only the SHA-256 is kept: no key, database or other link leads to it.
A link is dead when its message is gone, or when the token that made it may not hear the recording any more.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace

from app.access import store as tokens
from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.access.origin import Actor, Origin
from app.access.scopes import Scope
from app.addressing import Domain
from app.database.pool import Pool
from app.errors import Conflict, NotFound
from app.messages.audio import Audio, Choose, MessageAudio
from app.messages.links import store
from app.messages.links.model import Link
from app.messages.model import Message
from app.messages.service import Messages
from app.recordings.audio.kinds import Kind
from app.switch.tables.model import readable, uuid_in

DEFAULT, SHORTEST, LONGEST = 3600, 60, 30 * 24 * 3600  # seconds
MOST = 100  # of a message
_TEXT = re.compile(r"[0-9A-Za-z_-]{43}")


class LinkDead(NotFound):
    """This link leads nowhere: it has expired, it was revoked, or its message is gone."""


class Links:
    """Makes, revokes and opens links."""

    def __init__(self, pool: Pool, messages: Messages, audio: MessageAudio, *, static_token: bool) -> None:
        """``static_token``: whether VOICEMAIL_API_TOKEN is set; without it the links that were made with it are dead."""
        self._pool = pool
        self._messages = messages
        self._audio = audio
        self._static_token = static_token

    async def create(self, grant: Grant, key: str, seconds: int, *, domain: str | None = None) -> tuple[Link, str]:
        """A new link to a message's recording, and its text, which is shown this once. Raises ``NotFound`` and ``Conflict``."""
        message = await self._messages.find(grant, key, domain=domain)
        text = secrets.token_urlsafe(32)
        async with self._pool.acquire() as connection, connection.transaction():
            if await store.count(connection, message.id) >= MOST:
                raise Conflict(f"this message has {MOST} links: revoke some of them first")
            made = await store.insert(
                connection,
                _digest(text),
                message.id,
                domain=readable(message.domain),
                token_id=grant.token_id,
                made_by=grant.name,
                seconds=seconds,
            )
            entry = _entry(grant, Action.LINK_CREATE, message, f"link {made.id}, until {made.expires_at:%Y-%m-%dT%H:%M:%SZ}")
            await audit.insert(connection, [entry])
        return made, text

    async def of_message(self, grant: Grant, key: str, *, domain: str | None = None) -> Sequence[Link]:
        """The links of a message that have not expired, newest first. Raises ``NotFound``."""
        message = await self._messages.find(grant, key, domain=domain)
        return await store.of_message(self._pool, message.id, MOST)

    async def revoke(self, grant: Grant, key: str, link: str | None = None, *, domain: str | None = None) -> None:
        """Revoke one link of a message, or all of them. Raises ``NotFound`` for a message or a link that is not there."""
        message = await self._messages.find(grant, key, domain=domain)
        link_id = None if link is None else uuid_in(link)
        if link is not None and link_id is None:
            raise NotFound("there is no such link")
        async with self._pool.acquire() as connection, connection.transaction():
            gone = await store.delete(connection, message.id, link_id)
            if link_id is not None and not gone:
                raise NotFound("there is no such link")
            await audit.insert(connection, [_entry(grant, Action.LINK_REVOKE, message, f"link {id_}") for id_ in gone])

    async def open(self, text: str, origin: Origin, *, kind: Kind | None = None, choose: Choose | None = None) -> Audio:
        """The recording that a link leads to. Raises ``LinkDead``, and what ``MessageAudio.open`` raises."""
        link = await store.find(self._pool, _digest(text)) if _TEXT.fullmatch(text) else None
        if link is None or not await self._holds(link):
            raise LinkDead
        domain = Domain(link.domain)
        grant = Grant(
            link.made_by, frozenset({domain}), domain, frozenset({Scope.MESSAGE_AUDIO}), token_id=link.token_id,
            origin=replace(origin, actor=Actor.LINK),
        )  # fmt: skip
        try:
            return await self._audio.open(grant, str(link.message_id), kind=kind, choose=choose, detail=f"link {link.id}")
        except NotFound as error:
            raise LinkDead from error

    async def _holds(self, link: Link) -> bool:
        """Whether the token that made a link may still do what the link does."""
        if link.token_id is None:
            return self._static_token
        return await tokens.holds(self._pool, link.token_id, Scope.MESSAGE_AUDIO, link.domain)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _entry(grant: Grant, action: Action, message: Message, detail: str) -> AuditEntry:
    row = message.row
    return AuditEntry.of(grant, action, domain=row.domain, extension=row.username, target=message.id, detail=detail)
