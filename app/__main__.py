"""``python -m app`` is the ``voicemail`` command."""

from app.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
