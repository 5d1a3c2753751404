"""``voicemail mailbox adopt``: takes mailboxes out of files that this installation did not write into its database."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection, Pool
from app.errors import Invalid, VoicemailError
from app.mailboxes import fields, store
from app.mailboxes.directory import ownership
from app.mailboxes.directory import store as entries
from app.mailboxes.model import Mailbox, NewMailbox, split_addresses
from app.mailboxes.pins.cipher import PinCipher
from app.mailboxes.recipients import check_recipients
from app.switch.directory.files import FilesDirectory, file_name, whose
from app.switch.directory.marks import Owner
from app.switch.directory.reading import NotAMailbox, read_mailbox
from app.switch.directory.xml import Format

log = structlog.get_logger(__name__)

_AT_ONCE = 500
ADOPTED = """
UPDATE voicemail.directory_entry e SET adopted_file = f.stamp FROM unnest($2::text[], $3::text[]) f(extension, stamp)
WHERE e.domain = $1 AND e.extension = f.extension
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is not known here, and what adopting it would do. No ``repr`` shows a PIN."""

    extension: Extension
    stamp: str
    mailbox: NewMailbox | None  # None: it cannot be adopted
    exists: bool = False  # the database has a mailbox with this extension, and keeps it
    reason: str = ""  # why it cannot be adopted

    @property
    def file(self) -> str:
        """The file's name."""
        return file_name(self.extension)


class Adoption:
    """Reads what could be adopted, and adopts it. Each part may be repeated: what was adopted is not found again."""

    def __init__(
        self,
        *,
        pool: Pool,
        owner: Owner,
        cipher: PinCipher,
        directory: FilesDirectory,
        style: Format,
        by: Grant,
    ) -> None:
        """``by``: whom the audit names."""
        self._pool = pool
        self._owner = owner
        self._domain = Domain(owner.domain)
        self._cipher = cipher
        self._directory = directory
        self._style: Format = style
        self._by = by

    @property
    def folder(self) -> Path:
        """The folder whose files these are."""
        return self._directory.folder

    async def plan(self) -> list[Candidate]:
        """Every file that is not known here, by extension. Raises ``DirectoryRefused`` if the folder cannot be read."""
        folder = await ownership.compare(self._pool, self._owner, await self._directory.look())
        found = sorted({*folder.others, *folder.strays})
        return [await self._candidate(extension, extension in folder.mailboxes) for extension in found]

    async def carry_out(self, candidates: Sequence[Candidate]) -> int:
        """Adopt what can be; how many files. The service then writes them anew, with this installation's mark."""
        taken = [candidate for candidate in candidates if candidate.mailbox is not None]
        for start in range(0, len(taken), _AT_ONCE):
            some = taken[start : start + _AT_ONCE]
            mailboxes = await asyncio.to_thread(self._sealed, some)
            async with self._pool.acquire() as connection, connection.transaction():
                new = [mailbox for mailbox in mailboxes if await store.insert(connection, mailbox)]
                await entries.raise_revisions(connection, self._domain, sorted(one.extension for one in some))
                await connection.execute(ADOPTED, self._domain, [one.extension for one in some], [one.stamp for one in some])
                await self._note_pins(connection, new)
                await audit.insert(
                    connection, [AuditEntry.of(self._by, Action.MAILBOX_ADOPT, mailbox=one.address, target=one.id) for one in new]
                )
            log.info("mailboxes_adopted", files=len(some), new=len(new))
        return len(taken)

    async def _candidate(self, extension: Extension, exists: bool) -> Candidate:
        stamp = ""
        try:
            found = await self._directory.content(extension)
            if found is None:
                raise NotAMailbox("it is gone")
            laid, content = found
            stamp = laid.stamp
            if laid.owner is not None and laid.owner.domain != self._owner.domain:
                raise NotAMailbox(f"it {whose(laid, self._owner)}")
            new = _checked(extension, content, self._style)
            if not exists:  # else the file's addresses are not taken
                async with self._pool.acquire() as connection:
                    await check_recipients(connection, self._domain, new.mail_to)
        except VoicemailError as error:
            return Candidate(extension, stamp, None, exists, error.detail)
        return Candidate(extension, stamp, new, exists)

    def _sealed(self, candidates: Sequence[Candidate]) -> list[Mailbox]:
        return [
            new.at(MailboxAddress(new.extension, self._domain), uuid4(), self._cipher.seal)
            for new in (candidate.mailbox for candidate in candidates)
            if new is not None
        ]

    async def _note_pins(self, connection: Connection, mailboxes: Sequence[Mailbox]) -> None:
        """A PIN in voicemail_prefs that differs from the file's was set by phone, and stays the mailbox's."""
        for mailbox in mailboxes:
            pin = self._cipher.open(mailbox.id, mailbox.sealed_pin)
            await entries.note_seen(connection, mailbox.address, None, self._cipher.digest(mailbox.address, [pin]))


def _checked(extension: Extension, content: bytes, style: Format) -> NewMailbox:
    """The mailbox of a file, after the same checks as a POST's."""
    found = read_mailbox(content, style)
    if found.extension not in (None, extension):
        raise NotAMailbox("its user is not the one that its name says")
    try:
        return NewMailbox(
            extension=Extension.parse(extension),
            pin=fields.pin(found.pin),
            enabled=found.enabled,
            mail_to=split_addresses(fields.mail_to(found.mail_to)),
        )
    except Invalid as error:
        raise NotAMailbox(error.detail) from None
    except ValueError as error:
        raise NotAMailbox(f"its PIN or its mail address cannot be kept: {error}") from None
