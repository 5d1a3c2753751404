"""The SQL over ``voicemail.audit``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.access.audit.model import AuditEntry, Line, Result
from app.access.idempotency import store as idempotency
from app.access.origin import Actor
from app.database.pool import Connection, Pool

INSERT = """
INSERT INTO voicemail.audit (at, actor, name, token_id, address, user_agent, request_id, action, domain, extension, target,
    detail, result, count)
SELECT coalesce(e.at, clock_timestamp()), e.actor, e.name, e.token_id, e.address, e.user_agent, e.request_id, e.action, e.domain,
    e.extension, e.target, e.detail, e.result, e.count
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::integer[])
    AS e(at, actor, name, token_id, address, user_agent, request_id, action, domain, extension, target, detail, result, count)
"""
_COLUMNS = """at, id, actor, name, token_id, address, user_agent, request_id, action, domain, extension, target, detail, result,
    count"""
# By the primary key, or by audit_domain if it is about one domain.
PAGE = f"SELECT {_COLUMNS} FROM voicemail.audit {{where}} ORDER BY at DESC, id DESC LIMIT $1"  # noqa: S608 - constants only
PURGE = "SELECT voicemail.purge_audit($1, $2)"
_CONDITIONS = {
    "domains": "domain = ANY ({}::text[])",
    "domain": "domain = {}",
    "extension": "extension = {}",
    "name": "name = {}",
    "action": "action = {}",
    "addresses": "address = ANY ({}::text[])",
    "since": "at >= {}",
    "until": "at < {}",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are wanted; None: whatever it is."""

    domains: Sequence[str] | None = None  # those that the caller sees; rows of no domain are then left out
    domain: str | None = None
    extension: str | None = None
    name: str | None = None
    action: str | None = None
    addresses: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None  # not included
    before: tuple[datetime, int] | None = None  # at and id of the row that the page follows


async def insert(target: Connection | Pool, entries: Sequence[AuditEntry]) -> None:
    """Keep rows; in a transaction of the caller's they come and go with it.

    Whatever changes something writes such a row in its transaction. So this is where a request with an Idempotency-Key is noted
    as one that did something; raises ``Conflict`` if another request with its key took over.
    """
    await target.execute(
        INSERT,
        [entry.at for entry in entries],
        [entry.actor for entry in entries],
        [entry.name for entry in entries],
        [entry.token_id for entry in entries],
        [entry.address for entry in entries],
        [entry.user_agent for entry in entries],
        [entry.request_id for entry in entries],
        [entry.action for entry in entries],
        [entry.domain for entry in entries],
        [entry.extension for entry in entries],
        [entry.target for entry in entries],
        [entry.detail for entry in entries],
        [entry.result for entry in entries],
        [entry.count for entry in entries],
    )
    for claim in {entry.claim for entry in entries if entry.claim is not None and entry.is_act}:
        await idempotency.note_act(target, claim)


async def page(pool: Pool, wanted: Wanted, limit: int) -> list[Line]:
    """Rows, newest first."""
    values: list[object] = [limit]
    conditions = []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            values.append(value)
            conditions.append(condition.format(f"${len(values)}"))
    if wanted.before is not None:
        values += wanted.before
        conditions.append(f"(at, id) < (${len(values) - 1}::timestamptz, ${len(values)}::bigint)")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return [_line(row) for row in await pool.fetch(PAGE.format(where=where), *values)]


async def purge(pool: Pool, keep_days: int, most: int) -> int:
    """Forget at most so many rows, the oldest first, that are older than both ``keep_days`` and the policy; how many it were."""
    return int(await pool.fetchval(PURGE, keep_days, most))


def _line(row: Mapping[str, Any]) -> Line:
    entry = AuditEntry(
        action=row["action"],
        result=Result(row["result"]),
        actor=Actor(row["actor"]),
        name=row["name"],
        token_id=row["token_id"],
        address=row["address"],
        user_agent=row["user_agent"],
        request_id=row["request_id"],
        domain=row["domain"],
        extension=row["extension"],
        target=row["target"],
        detail=row["detail"],
        count=row["count"],
        at=row["at"],
    )
    return Line(row["at"], row["id"], entry)
