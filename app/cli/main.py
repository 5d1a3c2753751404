"""Assembles the ``voicemail`` command and turns every expected failure into a sentence and an exit status."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from app.cli import audit, doctor, domain, mailbox, migrate, recording, rekey, sandbox, serve, token
from app.errors import DatabaseFailed, SettingsError, VoicemailError, file_and_reason

cli = typer.Typer(
    name="voicemail", help="A voicemail backend for FreeSWITCH.", no_args_is_help=True, pretty_exceptions_enable=False,
    rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
cli.command("serve")(serve.serve)
cli.command("sandbox")(sandbox.sandbox)
cli.command("migrate")(migrate.migrate)
cli.command("doctor")(doctor.doctor)
cli.command("rekey")(rekey.rekey)
cli.add_typer(audit.cli, name="audit")
cli.add_typer(domain.cli, name="domain")
cli.add_typer(token.cli, name="token")
cli.add_typer(mailbox.cli, name="mailbox")
cli.add_typer(recording.cli, name="recording")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"voicemail {version('freeswitch-voicemail')}")
        raise typer.Exit


@cli.callback()
def options(
    context: typer.Context,
    env_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="read settings from this file (else: .env; else, if nothing is set, /etc/voicemail.env)",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """A voicemail backend for FreeSWITCH."""
    context.obj = env_file


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 if all went well, 1 if it did not and 2 for a wrong call or wrong settings."""
    try:
        return int(cli(arguments, prog_name="voicemail", standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # as with `voicemail token list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (TyperException, VoicemailError, OSError) as error:
        print(_sentence(error), file=sys.stderr)
        return error.exit_code if isinstance(error, TyperException) else 2 if isinstance(error, SettingsError) else 1


def _sentence(error: TyperException | VoicemailError | OSError) -> str:
    match error:
        case TyperException():
            return _wrong_call(error)
        case SettingsError():
            lines = [f"  {item.field}: {item.message}" for item in error.errors]
            return "\n".join(["voicemail: cannot start, some settings are wrong:", *lines])
        case DatabaseFailed():
            return f"voicemail: {error.detail}" + ("" if error.reason == error.detail else f" ({error.reason})")
        case OSError():  # as with a file of another user
            return f"voicemail: {file_and_reason(error)}"
        case _:
            return f"voicemail: {error.detail}"


def _wrong_call(error: TyperException) -> str:
    message = error.format_message()
    if message.startswith("Usage:"):  # the command has no arguments: the message is the whole help
        return message
    context: typer.Context | None = getattr(error, "ctx", None)
    return f"{context.get_usage()}\n\nvoicemail: {message}" if context else f"voicemail: {message}"
