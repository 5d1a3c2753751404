"""SQL over sealed PINs and digests of PINs by the key that made them, the key that is noted, and what a domain asks of PINs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Connection
from app.domains.model import PinPolicy
from app.mailboxes.pins.cipher import DIGEST_AT, KEY_ID, SEALED_AT
from app.mailboxes.pins.policy import PinRules

_FACT = "secret_key_fingerprint"
_SEALED_BY = f"substring(pin_encrypted FROM {SEALED_AT} FOR {KEY_ID})"
_DIGEST_BY = f"substring(e.prefs_digest FROM {DIGEST_AT} FOR {KEY_ID})"

NOTE = "INSERT INTO voicemail.installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
NOTE_ANEW = "UPDATE voicemail.installation SET value = $2 WHERE name = $1 AND NOT EXISTS (SELECT FROM voicemail.mailbox)"
NOTE_OVER = "UPDATE voicemail.installation SET value = $2 WHERE name = $1"
PIN_RULES = "SELECT pin_policy, pin_min_length FROM voicemail.domain WHERE name = $1"
NOTED = "SELECT value FROM voicemail.installation WHERE name = $1"
# A look at every mailbox: for commands and for the start.
BY_KEY = f"SELECT {_SEALED_BY} AS key, count(*) AS pins FROM voicemail.mailbox GROUP BY 1"  # noqa: S608 - constants only
# By the primary key. The rows are locked in its order, so that two that do this at once do not wait for each other.
OTHERS = f"""
SELECT id, pin_encrypted FROM voicemail.mailbox
WHERE id > $1 AND {_SEALED_BY} <> $2 ORDER BY id LIMIT $3 FOR NO KEY UPDATE
"""  # noqa: S608
RESEAL = """
UPDATE voicemail.mailbox m SET pin_encrypted = n.sealed FROM unnest($1::uuid[], $2::bytea[]) n (id, sealed) WHERE m.id = n.id
"""
# Of a removal under way the digest does not matter.
OLD_DIGESTS = f"""
SELECT e.domain, e.extension, e.prefs_digest FROM voicemail.directory_entry e
JOIN voicemail.mailbox m ON m.domain = e.domain AND m.extension = e.extension
WHERE e.prefs_digest IS NOT NULL AND {_DIGEST_BY} <> $1
ORDER BY e.domain, e.extension
"""  # noqa: S608
# Only over the digest that was read: the service may have seen other PINs since.
RENEW_DIGESTS = """
WITH locked AS (
    SELECT e.domain, e.extension, o.new
    FROM voicemail.directory_entry e
    JOIN unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) o (domain, extension, old, new)
        ON e.domain = o.domain AND e.extension = o.extension AND e.prefs_digest = o.old
    ORDER BY e.domain, e.extension FOR UPDATE OF e
)
UPDATE voicemail.directory_entry e SET prefs_digest = l.new FROM locked l
WHERE e.domain = l.domain AND e.extension = l.extension
"""


@dataclass(frozen=True, slots=True)
class SealedPin:
    """A PIN as it is kept."""

    id: UUID
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewDigest:
    """A digest that takes the place of another one."""

    address: MailboxAddress
    old: bytes
    new: bytes


async def pin_rules(connection: Connection, domain: Domain) -> PinRules:
    """What a domain asks of new PINs; the default if there is no such domain."""
    row = await connection.fetchrow(PIN_RULES, domain)
    return PinRules(PinPolicy(row["pin_policy"]), row["pin_min_length"]) if row else PinRules()


async def note_key(connection: Connection, fingerprint: str) -> str:
    """Note the key if none is noted, or if there is no mailbox yet; the fingerprint that is noted now."""
    await connection.execute(NOTE, _FACT, fingerprint)
    await connection.execute(NOTE_ANEW, _FACT, fingerprint)
    return str(await connection.fetchval(NOTED, _FACT))


async def note_key_over(connection: Connection, fingerprint: str) -> None:
    """Note the key in place of the one that is noted."""
    await connection.execute(NOTE_OVER, _FACT, fingerprint)


async def pins_by_key(connection: Connection) -> dict[bytes, int]:
    """How many PINs each key sealed, by the key's id."""
    return {row["key"]: row["pins"] for row in await connection.fetch(BY_KEY)}


async def sealed_by_others(connection: Connection, key_id: bytes, *, after: UUID, limit: int) -> list[SealedPin]:
    """PINs that another key sealed, by id; nobody else changes them until the transaction ends."""
    rows = await connection.fetch(OTHERS, after, key_id, limit)
    return [SealedPin(UUID(int=row["id"].int), row["pin_encrypted"]) for row in rows]


async def reseal(connection: Connection, pins: Sequence[SealedPin]) -> None:
    """Keep PINs as they are sealed now; lock them first."""
    await connection.execute(RESEAL, [pin.id for pin in pins], [pin.sealed for pin in pins])


async def digests_by_others(connection: Connection, key_id: bytes) -> dict[MailboxAddress, bytes]:
    """The digests of mailboxes that another key made."""
    return {_address(row): row["prefs_digest"] for row in await connection.fetch(OLD_DIGESTS, key_id)}


async def renew_digests(connection: Connection, digests: Sequence[NewDigest]) -> None:
    """Put digests in the place of others, unless those were replaced meanwhile."""
    await connection.execute(
        RENEW_DIGESTS,
        [digest.address.domain for digest in digests],
        [digest.address.extension for digest in digests],
        [digest.old for digest in digests],
        [digest.new for digest in digests],
    )


def _address(row: Mapping[str, str]) -> MailboxAddress:
    return MailboxAddress(Extension(row["extension"]), Domain(row["domain"]))
