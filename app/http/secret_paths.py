"""Paths that are secret themselves, because whoever has one needs no token: no log shows them."""

import re

LINK_PATH = "/link/"  # what follows opens a recording
_SECRET = re.compile(r"(/link/).+", re.DOTALL | re.IGNORECASE)
_GUARDED = "/v1/voicemail/"  # below it a link stands under its id, which opens nothing


def shown(path: str) -> str:
    """A path for a log. Also a path that no route has may hold a whole secret, as when somebody mistyped a link."""
    return path if path.startswith(_GUARDED) else _SECRET.sub(r"\1…", path)
