"""``python -m app`` and ``voicemail`` are the same command."""

import signal

# While the program is loaded, Ctrl-C ends it at once: a KeyboardInterrupt in an import would print a traceback. `running.run`
# gives the signal back to Python.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from app.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
