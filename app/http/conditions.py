"""Conditional requests (RFC 9110, 13): a client changes only the version that it has read, and is sent only what it lacks."""

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
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


def has_changed(request: web.Request, tag: str, modified: int) -> bool:
    """Whether ``If-Match``, or else ``If-Unmodified-Since``, asks for another version than this one: the answer is 412."""
    if "If-Match" in request.headers:
        wanted = if_match(request)
        return wanted is not None and tag not in wanted
    since = http_date(request.headers.get("If-Unmodified-Since"))
    return since is not None and modified > since


def is_known(request: web.Request, tag: str, modified: int) -> bool:
    """Whether the client has this version, as ``If-None-Match``, or else ``If-Modified-Since``, says: the answer is 304."""
    if "If-None-Match" in request.headers:
        given = ",".join(request.headers.getall("If-None-Match"))
        return given.strip() == "*" or any(tag == known for _, known in _TAG.findall(given))
    since = http_date(request.headers.get("If-Modified-Since"))
    return since is not None and modified <= since


def range_holds(request: web.Request, tag: str, modified: int) -> bool:
    """Whether ``Range`` counts: without ``If-Range``, or if that names exactly this version (RFC 9110, 13.1.5)."""
    condition = request.headers.get("If-Range", "").strip()
    if not condition or condition.startswith('"'):
        return condition in ("", f'"{tag}"')
    return http_date(condition) == modified


def http_date(text: str | None) -> int | None:
    """Seconds since 1970 of an HTTP date; None if it is none."""
    try:
        return int(parsedate_to_datetime(text or "").timestamp())
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def conditional(handler: _Handler) -> _Handler:
    """Notes for the API's description that a handler looks at ``If-Match``."""
    setattr(handler, _MARK, True)
    return handler


def is_conditional(handler: Callable[..., Any]) -> bool:
    """Whether a handler looks at ``If-Match``."""
    return bool(getattr(handler, _MARK, False))
