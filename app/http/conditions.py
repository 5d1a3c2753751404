"""``ETag`` and ``If-Match`` (RFC 9110, 8.8.3 and 13.1.1): a client changes only the version that it has read."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

_Handler = TypeVar("_Handler", bound=Callable[..., Any])
_MARK = "__conditional__"

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


def etag(version: str) -> dict[str, str]:
    """The header that names a version."""
    return {"ETag": f'"{version}"'}


def if_match(request: web.Request) -> frozenset[str] | None:
    """The versions of which one must be there; None if the client does not say, or says that any will do.

    Weak tags never match here (RFC 9110, 13.1.1), so they are left out, and what cannot be read names no version.
    """
    given = ",".join(request.headers.getall("If-Match", []))
    if not given or given.strip() == "*":
        return None
    return frozenset(tag for weak, tag in _TAG.findall(given) if not weak)


def conditional(handler: _Handler) -> _Handler:
    """Notes for the API's description that a handler looks at ``If-Match``."""
    setattr(handler, _MARK, True)
    return handler


def is_conditional(handler: Callable[..., Any]) -> bool:
    """Whether a handler looks at ``If-Match``."""
    return bool(getattr(handler, _MARK, False))
