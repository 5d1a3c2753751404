"""``voicemail recording``: the files of messages."""

from typing import Annotated

import typer

from app.addressing import Domain, Extension, MailboxAddress
from app.cli.running import run, settings

cli = typer.Typer(help="Look after the recordings of messages.", no_args_is_help=True)


@cli.callback()
def recording() -> None:
    """Look after the recordings of messages."""


@cli.command()
def orphans(
    context: typer.Context,
    deliver: Annotated[
        str | None, typer.Option(metavar="EXTENSION", help="put those of this mailbox into it; also EXTENSION@DOMAIN")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="PATH", help="deliver this one alone, by its path in the list")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="deliver without asking")] = False,
) -> int:
    """List the recordings older than ten minutes that no row of the switch names."""
    import asyncio
    from datetime import datetime

    from app.offline import open_orphans

    configured = settings(context)
    wanted = _address(deliver, configured.domain) if deliver is not None else None

    async def work() -> int:
        """List the orphans, and deliver the chosen ones after a confirmation."""
        async with open_orphans(configured) as found:
            every = [orphan async for orphan in found.orphans.find()]
            chosen = [one for one in every if one.address == wanted and only in (None, one.path)] if wanted else every
            for one in chosen:
                modified = datetime.fromtimestamp(one.modified, configured.zone).isoformat(sep=" ")
                path = one.path.encode(errors="replace").decode()
                print(modified, one.address or "no mailbox", f"{one.size} bytes", path, sep="\t")
            if wanted is None or not chosen:
                print(f"{len(chosen)} recordings without a row")
                return 0
            if not yes and not await asyncio.to_thread(typer.confirm, f"put these {len(chosen)} into {wanted}?"):
                return 1
            done = await found.orphans.deliver(found.grant, chosen)
            print(f"{len(done)} of {len(chosen)} delivered to {wanted}")
            return 0 if len(done) == len(chosen) else 1

    return run(work())


def _address(text: str, default: str) -> MailboxAddress:
    extension, _, domain = text.partition("@")
    return MailboxAddress(Extension.parse(extension, "--deliver"), Domain.parse(domain or default, "--deliver"))
