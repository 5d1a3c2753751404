"""``voicemail audit``: who did what."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.running import duration, run, settings

if TYPE_CHECKING:
    from app.access.audit.model import Line

cli = typer.Typer(help="Read who did what.", no_args_is_help=True)

_PAGE = 1000


@cli.callback()
def options() -> None:
    """Read who did what."""


@cli.command("list")
def show(
    context: typer.Context,
    *,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="2026-01-31T12:00:00Z, or 90d, 12h, 30m ago")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="likewise; not included")] = None,
    domain: Annotated[str | None, typer.Option(help="about this domain")] = None,
    extension: Annotated[str | None, typer.Option(help="about this extension")] = None,
    who: Annotated[str | None, typer.Option(help="a token, or a user of the command line")] = None,
    action: Annotated[str | None, typer.Option(help="such as pin.read")] = None,
    address: Annotated[str | None, typer.Option(help="from this address")] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 100,
) -> int:
    """List it, newest first: time (UTC), who, address, action, mailbox or domain, target, result, count, request id, detail."""
    from app.access.audit.model import Action
    from app.access.audit.service import Filter
    from app.networks import plain
    from app.offline import open_administration

    if action is not None and action not in set(Action):
        raise typer.BadParameter("must be one of " + " ".join(Action), param_hint="--action")
    if address is not None and not plain(address):
        raise typer.BadParameter("must be an IP address", param_hint="--address")
    wanted = Filter(
        since=_moment(since, "--since"),
        until=_moment(until, "--until"),
        domain=domain,
        extension=extension,
        who=who,
        action=Action(action) if action else None,
        address=plain(address) if address else None,
    )

    async def work() -> int:
        left, cursor = limit, None
        async with open_administration(settings(context)) as admin:
            while left:
                lines, cursor = await admin.audit.page(admin.grant, wanted, limit=min(left, _PAGE), cursor=cursor)
                for line in lines:
                    print(_line(line))
                left -= len(lines)
                if cursor is None:
                    break
        return 0

    return run(work())


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    if not text[:4].isdigit() or "-" not in text:
        return datetime.now(UTC) - duration(text, option)
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("must be a time such as 2026-01-31T12:00:00Z, 90d or 12h", param_hint=option) from None


def _line(line: "Line") -> str:
    entry = line.entry
    about = "" if entry.domain is None else entry.domain if entry.extension is None else f"{entry.extension}@{entry.domain}"
    who = f"{entry.actor} {entry.name}".rstrip()
    at = line.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    facts = (
        at,
        who,
        entry.address,
        entry.action,
        about,
        entry.target,
        entry.result,
        str(entry.count),
        entry.request_id,
        entry.detail,
    )
    return "\t".join(fact or "-" for fact in facts)
