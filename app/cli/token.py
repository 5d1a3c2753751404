"""``voicemail token``: the API's bearer tokens."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.access.model import NewToken, TokenInfo
from app.access.scopes import EVERY, Scope
from app.addressing import Domain
from app.cli.running import duration, page_through, run, settings
from app.errors import NotFound

cli = typer.Typer(help="Manage the API's bearer tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]
Expires = Annotated[str | None, typer.Option(metavar="TIME", help="such as 90d or 12h, at most 3653d; 365d unless said")]


@cli.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="who will use it")],
    *,
    domain: Annotated[
        list[str] | None, typer.Option(help="a domain that it may see; repeat for more, the default one first")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="what it may do, such as message:read; repeat for more")] = None,
    all_domains: Annotated[bool, typer.Option("--all-domains", help="every domain, also those that come later")] = False,
    all_scopes: Annotated[bool, typer.Option("--all-scopes", help="every scope, also those of later releases")] = False,
    expires: Expires = None,
) -> int:
    """Create a token and print it. It is never shown again."""
    from app.offline import open_administration

    new = NewToken(
        name=name,
        domains=_domains(domain or [], every=all_domains),
        scopes=_scopes(scope or [], every=all_scopes),
        expires_at=_expiry(expires),
    )

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            _made, text = await admin.tokens.create(admin.grant, new)
        print(text)
        return 0

    return run(work())


@cli.command("list")
def show(context: typer.Context) -> int:
    """List the tokens: name, domains, scopes, when each expires and when it was used last (UTC)."""
    from app.offline import open_administration

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            async for token in page_through(admin.tokens.page, admin.grant):
                print(_line(token))
        return 0

    return run(work())


@cli.command()
def rotate(
    context: typer.Context,
    name: Name,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="how long the old one stays valid, such as 0s, 1h or 7d")] = "1h",
    expires: Expires = None,
) -> int:
    """Replace a token by a new one with the same name and print it. It is never shown again."""
    from app.offline import open_administration

    kept, expires_at = duration(overlap, "--overlap"), _expiry(expires)

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            with _named(name):
                token, text = await admin.tokens.rotate(admin.grant, name, overlap=kept, expires_at=expires_at)
        until = f"is valid until {_time(token.old_valid_until)}" if token.old_valid_until else "is not valid any more"
        print(f"voicemail: the old token {until}", file=sys.stderr)
        print(text)
        return 0

    return run(work())


@cli.command()
def revoke(context: typer.Context, name: Name) -> int:
    """Withdraw a token; every copy of the service refuses it at once."""
    from app.offline import open_administration

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            with _named(name):
                await admin.tokens.revoke(admin.grant, name)
        return 0

    return run(work())


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the token that does not exist. The service's error does not name it: its answer is the same for every name."""
    try:
        yield
    except NotFound:
        raise NotFound(f"there is no token named {name}") from None


def _domains(given: list[str], *, every: bool) -> tuple[Domain, ...] | None:
    if every == bool(given):
        raise typer.BadParameter("say which domains with --domain, or every one with --all-domains", param_hint="--domain")
    return None if every else tuple(Domain.parse(each, "--domain") for each in given)


def _scopes(given: list[str], *, every: bool) -> frozenset[Scope] | None:
    if every == bool(given):
        raise typer.BadParameter("say what it may do with --scope, or everything with --all-scopes", param_hint="--scope")
    for each in given:
        if each not in set(Scope):
            raise typer.BadParameter("must be one of " + " ".join(Scope), param_hint="--scope")
    return None if every else frozenset(Scope(each) for each in given)


def _expiry(expires: str | None) -> datetime | None:
    return datetime.now(UTC) + duration(expires, "--expires") if expires else None


def _line(token: TokenInfo) -> str:
    domains = EVERY if token.domains is None else ",".join(sorted(token.domains))
    scopes = EVERY if token.scopes is None else ",".join(sorted(token.scopes))
    expired = token.expires_at <= datetime.now(UTC)
    expiry = f"{'expired' if expired else 'expires'} {_time(token.expires_at)}"
    used = f"used {_time(token.last_used_at)}" if token.last_used_at else "never used"
    return "\t".join((token.name, domains, scopes, expiry, used))


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
