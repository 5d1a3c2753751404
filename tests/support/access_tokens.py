"""Tokens and domains for tests, made as the operator's command line makes them."""

from collections.abc import Iterable
from datetime import datetime

import asyncpg

from app.access.grant import Grant
from app.access.model import NewToken
from app.access.scopes import Scope
from app.access.tokens import Tokens
from app.addressing import Domain
from app.database.pool import Pool, open_pool

LAB = Domain("lab.local")
OPERATOR = Grant.everything("operator", LAB)


async def make_domains(target: "Pool | asyncpg.Connection", *names: str) -> None:
    """The domains, if they are not there."""
    for name in names:
        await target.execute("INSERT INTO voicemail.domain (name) VALUES ($1) ON CONFLICT DO NOTHING", name)


async def make_token(
    dsn: str,
    name: str,
    domains: Iterable[str] | None = None,
    scopes: Iterable[Scope] | None = None,
    *,
    expires_at: datetime | None = None,
) -> str:
    """The text of a new token; None for domains or scopes: all of them. The domains are made too."""
    pool = await open_pool(dsn, size=1, application_name="test")
    try:
        named = None if domains is None else tuple(Domain(domain) for domain in domains)
        await make_domains(pool, *(named or ()))
        held = None if scopes is None else frozenset(scopes)
        _made, text = await Tokens(pool, LAB).create(OPERATOR, NewToken(name, named, held, expires_at=expires_at))
        return text
    finally:
        pool.terminate()


async def revoke_token(dsn: str, name: str) -> None:
    """Withdraw a token, as another process would."""
    pool = await open_pool(dsn, size=1, application_name="test")
    try:
        await Tokens(pool, LAB).revoke(OPERATOR, name)
    finally:
        pool.terminate()
