"""The SQL over ``voicemail.domain``."""

from collections.abc import Mapping
from typing import Any

from app.addressing import Domain
from app.database.pool import Connection
from app.domains.model import DomainSettings, HostedDomain, PinPolicy

_COLUMNS = (
    "name, description, time_zone, language, mail_from, mail_from_name, reply_to, pin_policy, pin_min_length, mail_domains,"
    " trash_days"
)
# $1 in the first two: the names that the caller may see, NULL for every one.
PAGE = f"SELECT {_COLUMNS} FROM voicemail.domain WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY name LIMIT $2 OFFSET $3"  # noqa: S608
COUNT = "SELECT count(*) FROM voicemail.domain WHERE $1::text[] IS NULL OR name = ANY ($1)"
GET = f"SELECT {_COLUMNS} FROM voicemail.domain WHERE name = $1"  # noqa: S608 - constants only
LOCK = f"{GET} FOR UPDATE"  # also keeps mailboxes and tokens from being made in it, whose foreign keys need the row
INSERT = """
INSERT INTO voicemail.domain
    (name, description, time_zone, language, mail_from, mail_from_name, reply_to, pin_policy, pin_min_length, mail_domains,
     trash_days)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING RETURNING name
"""
UPDATE = """
UPDATE voicemail.domain SET description = $2, time_zone = $3, language = $4, mail_from = $5, mail_from_name = $6, reply_to = $7,
    pin_policy = $8, pin_min_length = $9, mail_domains = $10, trash_days = $11, updated_at = now()
WHERE name = $1
"""
DELETE = "DELETE FROM voicemail.domain WHERE name = $1"
ALIKE = "SELECT name FROM voicemail.domain WHERE lower(name) = lower($1)"
# What would be left without a domain. A directory entry without a mailbox is a removal that the switch has not made yet.
USES = """
SELECT EXISTS (SELECT FROM voicemail.mailbox WHERE domain = $1) AS mailboxes,
    EXISTS (SELECT FROM voicemail.directory_entry WHERE domain = $1) AS removals,
    EXISTS (SELECT FROM voicemail.api_token_domain WHERE domain = $1
        UNION ALL SELECT FROM voicemail.api_token WHERE default_domain = $1) AS tokens
"""
_USES = {
    "mailboxes": "has mailboxes; delete them first",
    "removals": "has mailboxes that the switch has not given up yet; try again later",
    "tokens": "is named by tokens; revoke them first",
}


async def page(
    connection: Connection, seen: frozenset[Domain] | None, *, limit: int, offset: int
) -> tuple[list[HostedDomain], int]:
    """The domains that may be seen, by name, and how many there are."""
    names = None if seen is None else sorted(seen)
    rows = await connection.fetch(PAGE, names, limit, offset)
    return [_hosted(row) for row in rows], int(await connection.fetchval(COUNT, names))


async def get(connection: Connection, name: Domain) -> HostedDomain | None:
    """The domain of this name."""
    row = await connection.fetchrow(GET, name)
    return row and _hosted(row)


async def lock(connection: Connection, name: Domain) -> HostedDomain | None:
    """As ``get``, with a lock: nobody changes the domain or adds to it until the transaction ends."""
    row = await connection.fetchrow(LOCK, name)
    return row and _hosted(row)


async def alike(connection: Connection, name: Domain) -> Domain | None:
    """The name of the domain that has this name, in whatever capitals."""
    found = await connection.fetchval(ALIKE, name)
    return None if found is None else Domain(found)


async def insert(connection: Connection, domain: HostedDomain) -> bool:
    """Keep a new domain; False if there is one of this name, in whatever capitals."""
    return await connection.fetchval(INSERT, domain.name, *_values(domain.settings)) is not None


async def update(connection: Connection, domain: HostedDomain) -> None:
    """Keep a domain's settings."""
    await connection.execute(UPDATE, domain.name, *_values(domain.settings))


async def use_of(connection: Connection, name: Domain) -> str | None:
    """Why the domain cannot be deleted; None if nothing is in it. Lock it first."""
    row = await connection.fetchrow(USES, name)
    return next((reason for use, reason in _USES.items() if row[use]), None)


async def delete(connection: Connection, name: Domain) -> None:
    """Forget a domain."""
    await connection.execute(DELETE, name)


def _values(settings: DomainSettings) -> tuple[str | int | list[str] | None, ...]:
    return (
        settings.description,
        settings.time_zone,
        settings.language,
        settings.mail_from,
        settings.mail_from_name,
        settings.reply_to,
        settings.pin_policy,
        settings.pin_min_length,
        list(settings.mail_domains),
        settings.trash_days,
    )


def _hosted(row: Mapping[str, Any]) -> HostedDomain:
    settings = DomainSettings(
        description=row["description"],
        time_zone=row["time_zone"],
        language=row["language"],
        mail_from=row["mail_from"],
        mail_from_name=row["mail_from_name"],
        reply_to=row["reply_to"],
        pin_policy=PinPolicy(row["pin_policy"]),
        pin_min_length=row["pin_min_length"],
        mail_domains=tuple(row["mail_domains"]),
        trash_days=row["trash_days"],
    )
    return HostedDomain(Domain(row["name"]), settings)
