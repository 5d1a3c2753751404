"""A message whose row the switch failed to insert: its known facts, and the row that this service inserts instead."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from uuid import uuid5

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.errors import Invalid, UnfitValue
from app.recordings.model import is_message_name
from app.recordings.paths import RecordingPaths
from app.switch.esl.reply import Event
from app.switch.tables.messages import reading_table
from app.switch.tables.model import NAMESPACE, readable, uuid_in

_LONGEST = 255  # characters of every text column of voicemail_msgs
_LONGEST_CALL = 24 * 3600  # seconds
_UUID = re.compile(r"[0-9A-Za-z@._:+-]{1,255}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_SHARED = "voicemail"  # mod_voicemail's storage-dir-shared puts this folder between domain and mailbox
URGENT, NORMAL = "A_URGENT", "B_NORMAL"
_JOINERS = "\u200c\u200d"  # they belong to scripts and to emoji
NOBODY = "anonymous"  # mod_voicemail's own text for an unknown caller

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
INSERT = """
INSERT INTO voicemail_msgs (
    created_epoch, read_epoch, username, domain, uuid, cid_name, cid_number, in_folder, file_path, message_len, flags, read_flags,
    forwarded_by
)
SELECT $7::bigint, 0, $3::text, $2::text, $4::text, $5::text, $6::text, 'inbox', $1::text, $8::integer, '', $9::text, ''
WHERE NOT EXISTS (SELECT FROM voicemail_msgs WHERE file_path = $1::text)
"""
SECONDS = "SELECT coalesce(sum(message_len), 0)::bigint FROM voicemail_msgs WHERE username = $1 AND domain = $2"
# The switch's own INSERT may have waited longer than this service did. Both rows have the same four fields; one is enough.
REDUCE = """
DELETE FROM voicemail_msgs WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM voicemail_msgs WHERE file_path = $1 AND domain = $2 AND username = $3 AND uuid = $4
    ORDER BY read_epoch DESC, ctid DESC OFFSET 1
))
"""


@dataclass(frozen=True, slots=True)
class LeftMessage:
    """A message that a caller left; every text fits its column."""

    file_path: str  # as the switch writes it
    domain: str
    username: str
    uuid: str  # the call's
    caller_name: str
    caller_number: str
    created_epoch: int
    duration: int  # whole seconds
    read_flags: str

    @property
    def address(self) -> MailboxAddress:
        """The mailbox."""
        return MailboxAddress(Extension(self.username), Domain(self.domain))


def left_message(event: Event, paths: RecordingPaths) -> LeftMessage | None:
    """The message that a ``leave-message`` event tells of; None if it is another event, or tells of no recording of ours.

    Callers write parts of an event, so it only says that a row is to come. The mailbox is the one that the path names.
    """
    headers = event.headers
    file_path, uuid = headers.get("VM-File-Path", ""), headers.get("VM-UUID", "")
    if headers.get("VM-Action") != "leave-message" or not _UUID.fullmatch(uuid):
        return None
    address = mailbox_of(file_path, paths)
    if address is None:
        return None
    return LeftMessage(
        file_path=file_path,
        domain=address.domain,
        username=address.extension,
        uuid=uuid,
        caller_name=caller_text(headers.get("VM-Caller-ID-Name", "")),
        caller_number=caller_text(headers.get("VM-Caller-ID-Number", "")),
        created_epoch=_number(headers.get("VM-Timestamp", ""), 2**31 - 1),
        duration=_number(headers.get("VM-Message-Len", ""), _LONGEST_CALL),
        read_flags=URGENT if headers.get("VM-Flags") == URGENT else NORMAL,
    )


def left_file(file_path: str, address: MailboxAddress, *, created_epoch: int, uuid: str = "") -> LeftMessage:
    """What is known of a recording without an event: whose it is, when it was made, and the uuid of the row that it had."""
    name = PurePosixPath(file_path).name.removeprefix("msg_")
    uuid = uuid or str(uuid_in(name[:36]) or uuid5(NAMESPACE, file_path))
    created = min(max(created_epoch, 0), 2**31 - 1)
    return LeftMessage(file_path, address.domain, address.extension, uuid, NOBODY, NOBODY, created, 0, NORMAL)


def mailbox_of(file_path: str, paths: RecordingPaths) -> MailboxAddress | None:
    """The mailbox in whose folder a message's recording lies; None for anything else, and for a path that fits no row.

    mod_voicemail records to ``<storage-dir>/<domain>/<mailbox>/msg_….wav``, or ``<domain>/voicemail/<mailbox>`` if shared.
    """
    relative = paths.relative(file_path)
    if len(file_path) > _LONGEST or not file_path.isprintable() or relative is None:
        return None
    *above, domain, extension, name = ("", "", *PurePosixPath(relative).parts)
    if domain == _SHARED and above and above[-1]:  # else it is a domain of that name
        domain = above[-1]
    if not is_message_name(name):
        return None
    try:
        return MailboxAddress(Extension.parse(extension), Domain.parse(domain))
    except Invalid:
        return None


def caller_text(text: str) -> str:
    """A caller's name or number as a row can hold it: valid UTF-8 without control characters, at most 255 characters."""
    cut = readable(text[: 4 * _LONGEST])
    return " ".join("".join(c if c.isprintable() or c in _JOINERS else " " for c in cut).split())[:_LONGEST]


def _number(text: str, largest: int) -> int:
    return min(int(text), largest) if _NUMBER.fullmatch(text) else 0


async def insert(connection: Connection, left: LeftMessage) -> bool:
    """Insert the row unless a row names the recording already; whether it was inserted. Raises ``Unavailable``."""
    try:
        return await _insert(connection, left, left.caller_name, left.caller_number)
    except UnfitValue:  # a database of another encoding: shorter, or without these letters
        plain = (text.encode("ascii", "replace").decode() for text in (left.caller_name, left.caller_number))
        return await _insert(connection, left, *plain)


async def _insert(connection: Connection, left: LeftMessage, name: str, number: str) -> bool:
    with reading_table():
        async with connection.transaction():
            # Two copies of this service wait for each other; the statement after it sees what the other one did.
            await connection.execute(LOCK, left.file_path)
            status = await connection.execute(
                INSERT, left.file_path, left.domain, left.username, left.uuid, name, number,
                left.created_epoch, left.duration, left.read_flags,
            )  # fmt: skip
    return bool(status == "INSERT 0 1")


async def reduce(connection: Connection, left: LeftMessage) -> bool:
    """Leave one of the rows of this message if there are several; whether there were."""
    with reading_table():
        status = await connection.execute(REDUCE, left.file_path, left.domain, left.username, left.uuid)
    return bool(status != "DELETE 0")


async def seconds(connection: Connection, address: MailboxAddress) -> int:
    """How long the messages of a mailbox are, as mod_voicemail counts them against ``vm-disk-quota``."""
    with reading_table():
        return int(await connection.fetchval(SECONDS, address.extension, address.domain))
