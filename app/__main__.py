"""``python -m app`` and ``voicemail`` are the same command."""

import sys

# structlog and typer load rich if it is installed, for colours that this program never prints. That is a tenth of a start.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from app.cli.main import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
