"""Every error as RFC 9457 ``application/problem+json``; the only place that knows which error has which status."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web

from app.errors import (
    Conflict,
    DatabaseRefused,
    DatabaseUnavailable,
    FieldError,
    Forbidden,
    Invalid,
    InvalidToken,
    NotFound,
    PreconditionFailed,
    SwitchRefused,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    VoicemailError,
    file_and_reason,
    places_of,
)
from app.jobs.repeats import Repeats

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
_RETRY = {"Retry-After": "5"}


class BadRequest(VoicemailError):
    """The body cannot be read."""


class UnsupportedMediaType(VoicemailError):
    """The body must be application/json."""


class BodyTooLarge(VoicemailError):
    """The body is too large."""


class RequestTimeout(VoicemailError):
    """The body did not arrive in time."""


_STATUS: tuple[tuple[type[VoicemailError], int], ...] = (
    (Invalid, 422),
    (NotFound, 404),
    (Forbidden, 403),
    (Conflict, 409),
    (PreconditionFailed, 412),
    (BadRequest, 400),
    (RequestTimeout, 408),
    (BodyTooLarge, 413),
    (UnsupportedMediaType, 415),
    (Unavailable, 503),
    (SwitchRefused, 502),
)


def problem(
    status: int, detail: str, *, errors: Sequence[FieldError] = (), more: int = 0, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A problem document; ``more`` says how many wrong fields there are beside ``errors``."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        document["errors"] = [{"field": error.field, "message": error.message} for error in errors]
    if more:
        document["more_errors"] = more
    return web.Response(status=status, body=orjson.dumps(document, default=_readable), headers=headers, content_type=CONTENT_TYPE)


def _readable(value: object) -> str:
    # A path may hold a lone surrogate, which orjson refuses.
    return str(value).encode("utf-8", "replace").decode()


def status_of(error: VoicemailError) -> int:
    """The status of a call that ends with this error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: Exception, repeats: Repeats | None = None) -> web.Response:
    """The problem document for an exception of a handler. A bug is logged, and its text is not sent.

    ``repeats``: what earlier requests met; a database that is away is one line for all of them.
    """
    if isinstance(error, web.HTTPException):
        return _of_aiohttp(error)
    if isinstance(error, Unauthorized | Forbidden):
        return _of_access(error)
    if isinstance(error, TooManyRequests):
        return problem(429, error.detail, headers={"Retry-After": str(max(1, math.ceil(error.retry_after)))})
    if isinstance(error, VoicemailError) and not isinstance(error, DatabaseRefused):
        status = status_of(error)
        if isinstance(error, Invalid) and error.errors:
            return problem(status, "some fields are wrong", errors=error.errors, more=error.more)
        if isinstance(error, DatabaseUnavailable):
            (repeats or Repeats()).tell("database_unavailable", error.reason)
        return problem(status, error.detail, headers=_RETRY if status == 503 else None)
    # The text of an exception may quote private data, so only its type and place are logged.
    facts: dict[str, str] = {"error": type(error).__name__}
    if isinstance(error, OSError):
        facts["reason"] = file_and_reason(error)
    elif isinstance(error, DatabaseRefused):
        facts["reason"] = error.detail
    log.error("request_failed", **facts, at=places_of(error))
    return problem(500, "this is a fault of the service; its log says where")


def _of_access(error: Unauthorized | Forbidden) -> web.Response:
    """With the challenge of RFC 6750, section 3.1."""
    if isinstance(error, Forbidden):
        challenge = f'Bearer error="insufficient_scope", scope="{error.scope}"' if error.scope else None
        return problem(403, error.detail, headers={"WWW-Authenticate": challenge} if challenge else None)
    challenge = 'Bearer error="invalid_token"' if isinstance(error, InvalidToken) else "Bearer"
    return problem(401, error.detail, headers={"WWW-Authenticate": challenge})


def _of_aiohttp(error: web.HTTPException) -> web.Response:
    details = {
        404: "there is nothing at this path",
        405: "this path does not take this method",
        413: "the body is larger than 1 MiB",
    }
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return problem(error.status, details.get(error.status, error.reason.lower()), headers=headers)
