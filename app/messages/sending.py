"""Messages that a caller moves, copies or forwards: checked and audited before anything is done."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry, Result
from app.access.grant import Grant
from app.addressing import Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import Conflict, Invalid, NotFound, Unavailable, VoicemailError
from app.mailboxes import store as mailboxes
from app.messages.model import Message
from app.messages.reasons import Reason
from app.messages.transfer_store import Kind, Transfer
from app.messages.transfers import MOVE, Transfers

_ACTIONS = {Kind.MOVE: Action.MESSAGE_MOVE, Kind.COPY: Action.MESSAGE_COPY, Kind.FORWARD: Action.MESSAGE_FORWARD}


async def _wanted(_connection: Connection, _message_id: object) -> str:
    """The message is in the other mailbox, for that is written first."""
    return ""


def move_reason() -> Reason:
    """The reason for which the source of a move is removed."""
    return Reason(MOVE, _wanted, only_unheard=False, at_once=True)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message for one mailbox."""

    address: MailboxAddress
    id: str  # of the new message
    detail: str = ""  # of a move: why the source is still there
    error: VoicemailError | None = None  # it is not there, or not yet


class Sending:
    """Sends messages to other mailboxes of the grant."""

    def __init__(self, pool: Pool, transfers: Transfers) -> None:
        self._pool, self._transfers = pool, transfers

    async def target(self, grant: Grant, extension: str, domain: str) -> MailboxAddress:
        """A mailbox that takes messages. Raises ``NotFound`` or ``Conflict``, naming ``to``."""
        absent = NotFound(f"to: there is no mailbox {extension}")
        try:
            address = MailboxAddress(Extension.parse(extension, "to"), grant.domain(domain))
        except (Invalid, NotFound):
            raise absent from None
        if not grant.sees(address):
            raise absent
        async with self._pool.acquire() as connection:
            mailbox = await mailboxes.find(connection, address.domain, address.extension)
        if mailbox is None:
            raise absent
        if not mailbox.enabled:
            raise Conflict(f"to: the mailbox {extension} is disabled")
        return address

    async def check(
        self, grant: Grant, message: Message, kind: Kind, to: Sequence[str], domain: str | None
    ) -> tuple[list[MailboxAddress], list[Transfer]]:
        """The mailboxes, and what is to be done for each. Raises as ``send`` does before anything is done."""
        targets = [await self.target(grant, extension, domain or message.domain) for extension in to]
        return targets, [await self._transfers.plan(message, kind, address) for address in targets]

    async def send(self, grant: Grant, message: Message, kind: Kind, to: Sequence[str], domain: str | None) -> list[Sent]:
        """Move, copy or forward a message to mailboxes of ``domain``, or of its own one; what became of it for each.

        Raises ``NotFound`` and ``Conflict`` before anything is done, and what hinders it if nothing is done in the end.
        """
        targets, planned = await self.check(grant, message, kind, to, domain)
        async with self._pool.acquire() as connection, connection.transaction():
            entries = [one for planning in planned for one in _entries(grant, message, planning)]
            await audit.insert(connection, entries)
            await self._transfers.ask(connection, planned)
        sent = []
        for address, one in zip(targets, planned, strict=True):
            try:
                moved = await self._transfers.finish(one)
                sent.append(Sent(address, str(one.id), moved.detail))
            except (Conflict, Unavailable) as error:
                sent.append(Sent(address, str(one.id), error.detail, error))
        if all(one.error for one in sent) and (first := sent[0].error):
            raise first
        return sent


def _entries(grant: Grant, message: Message, one: Transfer) -> list[AuditEntry]:
    """For the domain of the message, and for that of the other mailbox if it is another one."""
    action, whole = _ACTIONS[one.kind], one.whole
    there, here = f"{whole.username}@{whole.domain}", f"{message.extension}@{message.domain}"
    entries = [
        AuditEntry.of(
            grant, action, domain=message.domain, extension=message.extension, target=message.id,
            detail=f"to {there} as {one.id}", result=Result.ALLOWED,
        )
    ]  # fmt: skip
    if whole.domain != message.domain:
        entries.append(
            AuditEntry.of(
                grant, action, domain=whole.domain, extension=whole.username, target=one.id,
                detail=f"from {here}, where it is {message.id}", result=Result.ALLOWED,
            )
        )  # fmt: skip
    return entries
