"""``python -m app`` and ``voicemail`` are the same command."""

import signal

# While the program is loaded, Ctrl-C ends it at once: a KeyboardInterrupt in an import would print a traceback. `running.run`
# gives the signal back to Python.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys

# structlog and typer load rich if it is installed, for colours that this program never prints. That is a tenth of a start.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from app.cli.main import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
