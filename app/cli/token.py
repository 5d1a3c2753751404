"""``voicemail token``: the API's bearer tokens."""

from typing import Annotated

import typer

from app.addressing import Domain
from app.cli.running import run, settings

cli = typer.Typer(help="Manage the API's bearer tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@cli.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="who will use it")],
    domain: Annotated[list[str] | None, typer.Option(help="give access to this domain only; repeat for more")] = None,
) -> int:
    """Make a token and print it, this once."""
    from app.offline import open_tokens

    async def work() -> int:
        domains = [Domain.parse(each) for each in domain] if domain else None
        async with open_tokens(settings(context)) as tokens:
            print(await tokens.create(name, domains))
        return 0

    return run(work())


@cli.command("list")
def show(context: typer.Context) -> int:
    """List the tokens' names."""
    from app.offline import open_tokens

    async def work() -> int:
        async with open_tokens(settings(context)) as tokens:
            for token in await tokens.list():
                print(token.name, ",".join(token.domains) if token.domains is not None else "every domain", sep="\t")
        return 0

    return run(work())


@cli.command()
def revoke(context: typer.Context, name: Name) -> int:
    """Withdraw a token."""
    from app.offline import open_tokens

    async def work() -> int:
        async with open_tokens(settings(context)) as tokens:
            await tokens.revoke(name)
        return 0

    return run(work())
