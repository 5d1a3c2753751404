"""The SQL over tokens: ``api_token`` has what a token allows, ``api_token_secret`` the digests that are valid for it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.access.grant import Grant
from app.access.model import Found, NewToken, TokenInfo
from app.access.scopes import ALL_SCOPES, Scope
from app.addressing import Domain
from app.database.pool import Connection, Pool

CHANNEL = "voicemail_token"  # NOTIFY with a token's name: cached data of that token is out of date

FIND = """
SELECT t.name, t.id, t.all_domains, t.all_scopes, t.scopes, t.default_domain,
    ARRAY(SELECT d.domain FROM voicemail.api_token_domain d WHERE d.token = t.name) AS domains,
    extract(epoch FROM s.expires_at - now())::double precision AS seconds_left
FROM voicemail.api_token_secret s JOIN voicemail.api_token t ON t.name = s.token
WHERE s.digest = $1
"""
# A caller sees a token if the caller's domains include all of the token's domains. $1: its domains, NULL for every domain.
_VISIBLE = """
($1::text[] IS NULL OR (NOT t.all_domains AND NOT EXISTS (
    SELECT FROM voicemail.api_token_domain d WHERE d.token = t.name AND d.domain <> ALL ($1::text[]))))
"""
_SHOWN = """
SELECT t.name, t.id, t.all_domains, t.all_scopes, t.scopes, t.default_domain, t.created_at,
    ARRAY(SELECT d.domain FROM voicemail.api_token_domain d WHERE d.token = t.name) AS domains,
    s.expires_at, s.last_used_at, s.old_valid_until
FROM voicemail.api_token t CROSS JOIN LATERAL (
    SELECT max(expires_at) FILTER (WHERE current) AS expires_at, max(last_used_at) AS last_used_at,
        max(expires_at) FILTER (WHERE NOT current AND expires_at > now()) AS old_valid_until
    FROM voicemail.api_token_secret WHERE token = t.name) s
"""
PAGE = f"{_SHOWN} WHERE {_VISIBLE} ORDER BY t.name LIMIT $2 OFFSET $3"
COUNT = f"SELECT count(*) FROM voicemail.api_token t WHERE {_VISIBLE}"  # noqa: S608
GET = f"{_SHOWN} WHERE {_VISIBLE} AND t.name = $2"
LOCK = f"SELECT t.name FROM voicemail.api_token t WHERE {_VISIBLE} AND t.name = $2 FOR UPDATE"  # noqa: S608
# Locks the domains until the token's rows refer to them, so that no domain is deleted meanwhile.
HOLD_DOMAINS = "SELECT name FROM voicemail.domain WHERE name = ANY ($1::text[]) ORDER BY name FOR KEY SHARE"
INSERT = """
INSERT INTO voicemail.api_token (name, all_domains, all_scopes, scopes, default_domain) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO NOTHING RETURNING name
"""
INSERT_DOMAINS = "INSERT INTO voicemail.api_token_domain (token, domain) SELECT $1, unnest($2::text[])"
INSERT_SECRET = "INSERT INTO voicemail.api_token_secret (digest, token, expires_at) VALUES ($1, $2, $3)"  # noqa: S105
RETIRE_SECRETS = """
UPDATE voicemail.api_token_secret SET current = false, expires_at = least(expires_at, now() + make_interval(secs => $2))
WHERE token = $1
"""
FORGET_EXPIRED = "DELETE FROM voicemail.api_token_secret WHERE token = $1 AND NOT current AND expires_at <= now()"
DELETE = "DELETE FROM voicemail.api_token WHERE name = $1"
TELL = f"SELECT pg_notify('{CHANNEL}', $1)"
# At most one write a minute and token, however many copies of the service there are.
NOTE_USE = """
UPDATE voicemail.api_token_secret s SET last_used_at = u.used_at
FROM (SELECT unnest($1::bytea[]) AS digest, date_trunc('minute', unnest($2::timestamptz[])) AS used_at) u
WHERE s.digest = u.digest AND (s.last_used_at IS NULL OR s.last_used_at < u.used_at)
"""

HOLDS = """
SELECT EXISTS (
    SELECT FROM voicemail.api_token t
    WHERE t.id = $1 AND (t.all_scopes OR $2 = ANY (t.scopes))
      AND (t.all_domains OR EXISTS (SELECT FROM voicemail.api_token_domain d WHERE d.token = t.name AND d.domain = $3))
      AND EXISTS (SELECT FROM voicemail.api_token_secret s WHERE s.token = t.name AND s.expires_at > now())
)
"""


async def holds(pool: Pool, token_id: UUID, scope: Scope, domain: str) -> bool:
    """Whether a token is valid now, and may do that in a domain."""
    return bool(await pool.fetchval(HOLDS, token_id, scope, domain))


async def find(pool: Pool, digest: bytes, default_domain: Domain) -> Found | None:
    """The token with this digest, even if it has expired. Uses the primary key."""
    row = await pool.fetchrow(FIND, digest)
    if row is None:
        return None
    default = default_domain if row["default_domain"] is None else Domain(row["default_domain"])
    scopes = _scopes(row)
    held = ALL_SCOPES if scopes is None else scopes
    grant = Grant(row["name"], _domains(row), default, held, token_id=row["id"])
    return Found(grant, row["seconds_left"])


async def page(connection: Connection, seen: frozenset[Domain] | None, *, limit: int, offset: int) -> tuple[list[TokenInfo], int]:
    """The tokens that may be seen, by name, and how many there are."""
    rows = await connection.fetch(PAGE, _array(seen), limit, offset)
    return [_info(row) for row in rows], int(await connection.fetchval(COUNT, _array(seen)))


async def get(connection: Connection, seen: frozenset[Domain] | None, name: str) -> TokenInfo | None:
    """The token of this name, if it may be seen."""
    row = await connection.fetchrow(GET, _array(seen), name)
    return row and _info(row)


async def lock(connection: Connection, seen: frozenset[Domain] | None, name: str) -> bool:
    """Whether the token exists and may be seen; nobody else changes it until the transaction ends."""
    return await connection.fetchval(LOCK, _array(seen), name) is not None


async def missing_domains(connection: Connection, domains: Sequence[Domain]) -> list[Domain]:
    """The domains in the list that do not exist. The others cannot be deleted until the transaction ends."""
    rows = await connection.fetch(HOLD_DOMAINS, list(domains))
    there = {row["name"] for row in rows}
    return [domain for domain in domains if domain not in there]


async def insert(connection: Connection, new: NewToken) -> bool:
    """Keep a new token, without a secret yet; False if the name is taken."""
    scopes = [] if new.scopes is None else sorted(new.scopes)
    name = await connection.fetchval(INSERT, new.name, new.domains is None, new.scopes is None, scopes, new.default_domain)
    if name is None:
        return False
    if new.domains is not None:
        await connection.execute(INSERT_DOMAINS, new.name, list(dict.fromkeys(new.domains)))
    return True


async def add_secret(connection: Connection, name: str, digest: bytes, expires_at: datetime) -> None:
    """Make a digest the token's current one."""
    await connection.execute(INSERT_SECRET, digest, name, expires_at)


async def retire_secrets(connection: Connection, name: str, overlap: float) -> None:
    """Let the existing digests expire after ``overlap`` seconds, delete expired ones, and notify every copy at commit."""
    await connection.execute(RETIRE_SECRETS, name, overlap)
    await connection.execute(FORGET_EXPIRED, name)
    await connection.execute(TELL, name)


async def delete(connection: Connection, name: str) -> None:
    """Delete a token with its digests, and notify every copy at commit."""
    await connection.execute(DELETE, name)
    await connection.execute(TELL, name)


async def note_use(pool: Pool, used: Mapping[bytes, datetime]) -> None:
    """Note when these digests were used last, to the minute."""
    await pool.execute(NOTE_USE, list(used), list(used.values()))


def _array(domains: frozenset[Domain] | None) -> list[Domain] | None:
    return None if domains is None else sorted(domains)


def _domains(row: Mapping[str, Any]) -> frozenset[Domain] | None:
    return None if row["all_domains"] else frozenset(Domain(domain) for domain in row["domains"])


def _scopes(row: Mapping[str, Any]) -> frozenset[Scope] | None:
    """None for all; a scope of a newer release is left out."""
    return None if row["all_scopes"] else frozenset(Scope(scope) for scope in row["scopes"] if scope in ALL_SCOPES)


def _info(row: Mapping[str, Any]) -> TokenInfo:
    return TokenInfo(
        name=row["name"],
        id=row["id"],
        domains=_domains(row),
        scopes=_scopes(row),
        default_domain=None if row["default_domain"] is None else Domain(row["default_domain"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        old_valid_until=row["old_valid_until"],
    )
