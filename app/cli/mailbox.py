"""``voicemail mailbox``: commands for mailboxes that the API does not offer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from app.addressing import Domain, Extension, MailboxAddress, MailboxKey
from app.cli.running import run, settings

if TYPE_CHECKING:
    from app.mailboxes.directory.adopt import Candidate

cli = typer.Typer(help="Take over mailboxes, set PINs, and unlock them.", no_args_is_help=True)


@cli.callback()
def options() -> None:
    """Take over mailboxes, set PINs, and unlock them."""


@cli.command()
def pin(
    context: typer.Context,
    extension: Annotated[str, typer.Argument(metavar="EXTENSION", help="also EXTENSION@DOMAIN, or the mailbox's id")],
    generate: Annotated[bool, typer.Option("--generate", help="a random PIN that the domain's rules take")] = False,
) -> int:
    """Give a mailbox a new PIN and print it, this once."""
    if not generate:
        raise typer.BadParameter("say --generate: a PIN on the command line could be read by every user of this host")
    from app.mailboxes.offline import open_mailboxes_offline

    number, _, domain = extension.partition("@")

    async def work() -> int:
        async with open_mailboxes_offline(settings(context)) as admin:
            made, _changed = await admin.mailboxes.generate_pin(admin.grant, MailboxKey.parse(number), asked=domain or None)
        print(made)
        return 0

    return run(work())


@cli.command()
def adopt(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="adopt them; without it they are only listed")] = False,
) -> int:
    """List the mailbox files that this database does not know. With --yes, add their mailboxes and PINs to the database."""
    from app.offline import open_adoption

    async def work() -> int:
        """List the files that can be adopted, and adopt them if --yes is given."""
        async with open_adoption(settings(context)) as adoptions:
            plans = [(adoption, await adoption.plan()) for adoption in adoptions]
            for adoption, plan in plans:
                if plan and len(plans) > 1:
                    print(f"{adoption.folder}:")
                _show(plan)
            ready = sum(candidate.mailbox is not None for _, plan in plans for candidate in plan)
            if not ready:
                print("there is nothing to adopt")
            elif yes:
                taken = sum([await adoption.carry_out(plan) for adoption, plan in plans])
                print(f"{taken} mailboxes are adopted; the running service writes their files again")
            else:
                print(f"{ready} mailboxes can be adopted, and nothing was changed: add --yes to adopt them")
        return 0 if ready == sum(len(plan) for _, plan in plans) else 1

    return run(work())


@cli.command()
def unlock(
    context: typer.Context,
    extension: Annotated[str, typer.Argument(metavar="EXT", help="whose mailbox")],
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="of which domain; VOICEMAIL_DOMAIN if left out")] = None,
) -> int:
    """End the lock that too many wrong PINs brought about: the mailbox's own PIN opens it again, and counting begins anew."""
    from app.offline import open_unlocking

    async def work() -> int:
        given = settings(context)
        address = MailboxAddress(Extension.parse(extension), Domain.parse(domain or given.domain, "--domain"))
        async with open_unlocking(given) as unlocking:
            ended = await unlocking.unlock(address)
        print(f"{address} is unlocked; the running service tells the switch" if ended else f"{address} was not locked")
        return 0

    return run(work())


def _show(plan: "Sequence[Candidate]") -> None:
    for candidate in plan:
        print(candidate.file, _line(candidate), sep="\t")


def _line(candidate: "Candidate") -> str:
    mailbox = candidate.mailbox
    if mailbox is None:
        return f"left alone: {candidate.reason}"
    if candidate.exists:
        return f"{mailbox.extension}\ta mailbox in the database already: its file will be written again from the database"
    return "\t".join([mailbox.extension, "enabled" if mailbox.enabled else "disabled", ",".join(mailbox.mail_to) or "no mail"])
