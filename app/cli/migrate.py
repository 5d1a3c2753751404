"""``voicemail migrate``."""

import typer

from app.cli.running import run, settings


def migrate(context: typer.Context) -> int:
    """Bring the database's schema up to date."""
    from app.offline import migrate_database

    async def bring() -> int:
        applied = await migrate_database(settings(context))
        print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
        return 0

    return run(bring())
