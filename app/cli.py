"""The ``voicemail`` command: serve, sandbox, migrate, doctor and token."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from app.addressing import Domain
from app.config import Settings, load_settings
from app.errors import SettingsError, VoicemailError
from app.logs import configure_logging


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all went well, 1 when it did not and 2 for a wrong call or wrong settings."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except SettingsError as error:
        print("voicemail: cannot start, some settings are wrong:", file=sys.stderr)
        for item in error.errors:
            print(f"  {item.field}: {item.message}", file=sys.stderr)
        return 2
    except VoicemailError as error:
        print(f"voicemail: {error.detail}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="voicemail", description="A voicemail backend for FreeSWITCH.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the service (settings: docs/settings.md)")
    serve.set_defaults(run=_serve)

    sandbox = commands.add_parser("sandbox", help="run everything on this machine alone, for a look around")
    sandbox.add_argument("--once", action="store_true", help="show one call from recording to mail, then stop")
    sandbox.set_defaults(run=_sandbox)

    migrate = commands.add_parser("migrate", help="bring the database's schema up to date")
    migrate.set_defaults(run=_migrate)

    doctor = commands.add_parser("doctor", help="check everything the service needs and say what to do")
    doctor.add_argument("--json", action="store_true", help="for machines")
    doctor.add_argument("--mail-to", metavar="ADDRESS", help="also send a test mail to this address")
    doctor.set_defaults(run=_doctor)

    token = commands.add_parser("token", help="manage the API's bearer tokens").add_subparsers(required=True, metavar="ACTION")
    create = token.add_parser("create", help="make a token and print it, this once")
    create.add_argument("name", help="who will use it")
    create.add_argument("--domain", action="append", dest="domains", help="give access to this domain only; repeat for more")
    create.set_defaults(run=_token_create)
    token.add_parser("list", help="list the tokens' names").set_defaults(run=_token_list)
    revoke = token.add_parser("revoke", help="withdraw a token")
    revoke.add_argument("name")
    revoke.set_defaults(run=_token_revoke)
    return parser


def _settings() -> Settings:
    settings = load_settings()
    configure_logging(settings.log_level)
    return settings


def _run(work: Coroutine[Any, Any, int]) -> int:
    return uvloop.run(work)


def _serve(_options: argparse.Namespace) -> int:
    from app.service import serve

    return _run(serve(_settings()))


def _sandbox(options: argparse.Namespace) -> int:
    from app.sandbox.run import sandbox

    return _run(sandbox(once=options.once))


def _migrate(_options: argparse.Namespace) -> int:
    from app.service import migrate_database

    settings = _settings()
    applied = asyncio.run(migrate_database(settings))
    print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from app.doctor.run import doctor

    return _run(doctor(as_json=options.json, mail_to=options.mail_to))


def _token_create(options: argparse.Namespace) -> int:
    from app.service import open_tokens

    async def create() -> int:
        domains = [Domain.parse(domain) for domain in options.domains] if options.domains else None
        async with open_tokens(_settings()) as tokens:
            print(await tokens.create(options.name, domains))
        return 0

    return _run(create())


def _token_list(_options: argparse.Namespace) -> int:
    from app.service import open_tokens

    async def show() -> int:
        async with open_tokens(_settings()) as tokens:
            for token in await tokens.list():
                print(token.name, ",".join(token.domains) if token.domains is not None else "every domain", sep="\t")
        return 0

    return _run(show())


def _token_revoke(options: argparse.Namespace) -> int:
    from app.service import open_tokens

    async def revoke() -> int:
        async with open_tokens(_settings()) as tokens:
            await tokens.revoke(options.name)
        return 0

    return _run(revoke())
