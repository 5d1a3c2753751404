"""``python -m app.lab``: what `make lab` runs."""

import sys

import uvloop

from app.errors import SettingsError, VoicemailError
from app.lab.run import lab


def main() -> int:
    """Run the lab; the exit status is 0 if all went well and another if it did not, for which there is a sentence."""
    try:
        return uvloop.run(lab(once="--once" in sys.argv[1:]))
    except SettingsError as error:
        for item in error.errors:
            print(f"lab: {item.field}: {item.message}", file=sys.stderr)
        return 2
    except VoicemailError as error:
        print(f"lab: {error.detail}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
