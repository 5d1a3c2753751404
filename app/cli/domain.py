"""``voicemail domain``: the domains that this installation serves."""

from collections.abc import Callable
from typing import Annotated

import typer

from app import fields as shared
from app.addressing import Domain
from app.cli.running import page_through, run, settings
from app.domains import fields
from app.domains.model import DomainSettings, HostedDomain
from app.errors import Invalid

cli = typer.Typer(help="Manage the domains that this installation serves.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="as the switch's directory writes it")]
Description = Annotated[str | None, typer.Option(help="up to 1000 characters")]
Zone = Annotated[str | None, typer.Option(help="such as Asia/Ho_Chi_Minh; empty: VOICEMAIL_TIME_ZONE")]
Language = Annotated[str | None, typer.Option(help="of its mails, such as en or vi")]
MailFrom = Annotated[str | None, typer.Option(help="the sender of its mails; empty: VOICEMAIL_MAIL_FROM")]
MailFromName = Annotated[str | None, typer.Option(help="the name beside the sender's address")]
Policy = Annotated[str | None, typer.Option(help="of new PINs that are easily guessed: off, warn or refuse; empty: warn")]
MinLength = Annotated[str | None, typer.Option(help="how many digits a new PIN should have: 4 to 32; empty: 6")]
TrashDays = Annotated[str | None, typer.Option(help="how long a deleted message can be restored; empty: VOICEMAIL_TRASH_DAYS")]
ReplyTo = Annotated[str | None, typer.Option(help="where answers to its mails go")]
MailDomains = Annotated[str | None, typer.Option(help="the only hosts that its mails may go to, with commas; empty: any")]

_CHECKS: dict[str, Callable[[str], str | int | tuple[str, ...] | None]] = {
    "description": shared.description,
    "time_zone": fields.time_zone,
    "language": fields.language,
    "mail_from": fields.address,
    "mail_from_name": fields.sender_name,
    "reply_to": fields.address,
    "pin_policy": fields.pin_policy,
    "pin_min_length": fields.pin_min_length,
    "mail_domains": fields.mail_domains,
    "trash_days": fields.trash_days,
}


@cli.command("list")
def show_all(context: typer.Context) -> int:
    """List the domains."""
    from app.offline import open_administration

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            async for domain in page_through(admin.domains.page, admin.grant):
                first = domain.settings.description.partition("\n")[0]
                print(domain.name, "default" if domain.name == admin.domains.default else "-", first, sep="\t")
        return 0

    return run(work())


@cli.command()
def show(context: typer.Context, name: Name) -> int:
    """Show a domain's settings; what is empty is the service's own."""
    from app.offline import open_administration

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            domain = await admin.domains.get(admin.grant, name)
        print("name", domain.name, sep="\t")
        for field in _CHECKS:
            value = getattr(domain.settings, field) or ""
            print(field, ",".join(value) if isinstance(value, tuple) else value, sep="\t")
        return 0

    return run(work())


@cli.command()
def create(
    context: typer.Context,
    name: Name,
    *,
    description: Description = None,
    time_zone: Zone = None,
    language: Language = None,
    mail_from: MailFrom = None,
    mail_from_name: MailFromName = None,
    reply_to: ReplyTo = None,
    pin_policy: Policy = None,
    pin_min_length: MinLength = None,
    mail_domains: MailDomains = None,
    trash_days: TrashDays = None,
) -> int:
    """Make a domain."""
    from app.offline import open_administration

    given = _checked(
        description=description, time_zone=time_zone, language=language,
        mail_from=mail_from, mail_from_name=mail_from_name, reply_to=reply_to,
        pin_policy=pin_policy, pin_min_length=pin_min_length,
        mail_domains=mail_domains, trash_days=trash_days,
    )  # fmt: skip
    new = HostedDomain(Domain.parse(name), DomainSettings(**given))  # type: ignore[arg-type]

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            await admin.domains.create(admin.grant, new)
        return 0

    return run(work())


@cli.command()
def change(
    context: typer.Context,
    name: Name,
    *,
    description: Description = None,
    time_zone: Zone = None,
    language: Language = None,
    mail_from: MailFrom = None,
    mail_from_name: MailFromName = None,
    reply_to: ReplyTo = None,
    pin_policy: Policy = None,
    pin_min_length: MinLength = None,
    mail_domains: MailDomains = None,
    trash_days: TrashDays = None,
) -> int:
    """Change the settings that are given; an empty one ("") is the service's own again."""
    from app.offline import open_administration

    given = _checked(
        description=description, time_zone=time_zone, language=language,
        mail_from=mail_from, mail_from_name=mail_from_name, reply_to=reply_to,
        pin_policy=pin_policy, pin_min_length=pin_min_length,
        mail_domains=mail_domains, trash_days=trash_days,
    )  # fmt: skip

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            await admin.domains.change(admin.grant, name, given)
        return 0

    return run(work())


@cli.command()
def delete(context: typer.Context, name: Name) -> int:
    """Delete a domain in which no mailbox is left and which no token names."""
    from app.offline import open_administration

    async def work() -> int:
        async with open_administration(settings(context)) as admin:
            await admin.domains.delete(admin.grant, name)
        return 0

    return run(work())


def _checked(**given: str | None) -> dict[str, str | int | tuple[str, ...] | None]:
    """The options that were given, each as it is kept. Raises ``Invalid``."""
    found: dict[str, str | int | tuple[str, ...] | None] = {}
    for name, text in given.items():
        if text is not None:
            try:
                found[name] = _CHECKS[name](text)
            except ValueError as error:
                raise Invalid.field("--" + name.replace("_", "-"), str(error)) from None
    return found
