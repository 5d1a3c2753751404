"""The aiohttp application: every route behind one gate for tokens, problems, headers and the access log."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from secrets import token_hex
from typing import Any

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel

from app.access.authenticator import Authenticator
from app.access.grant import NOBODY, Grant
from app.errors import Forbidden
from app.http.docs import add_docs
from app.http.metrics import Measure, add_metrics
from app.http.openapi import describe
from app.http.parsing import BodyReader, NoQuery, read_query
from app.http.problems import problem_of
from app.http.routing import Endpoint, Request, Response, endpoints
from app.jobs.repeats import Repeats

log = structlog.get_logger(__name__)

LARGEST_BODY = 1024 * 1024
_GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)
_REQUEST_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_QUIET = {"/healthz", "/readyz"}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(
    routes: Sequence[object], authenticator: Authenticator, measures: Mapping[str, Measure], *, title: str, version: str
) -> web.Application:
    """An application of the given route objects, with ``/openapi.json`` and ``/docs`` about them, and ``/metrics``."""
    public: set[object] = {_without_slash}  # the handlers that anybody may call; a path that no route has is not among them
    application = web.Application(client_max_size=LARGEST_BODY, middlewares=[_gate(authenticator, public)])
    bodies = BodyReader()
    found = [endpoint for group in routes for endpoint in endpoints(group)]
    # Fixed paths first: /v1/voicemail/message is not an extension.
    for endpoint in sorted(found, key=lambda endpoint: "{" in endpoint.mark.path):
        handler = _handler(endpoint, bodies)
        if not endpoint.guarded:
            public.add(handler)
        for method in ("GET", "HEAD") if endpoint.mark.method == "GET" else (endpoint.mark.method,):
            application.router.add_route(method, endpoint.mark.path, handler)
    for path in dict.fromkeys(endpoint.mark.path for endpoint in found):
        application.router.add_route("*", f"{path}/", _without_slash)
    public.add(add_metrics(application, measures))
    public.update(add_docs(application, orjson.dumps(describe(found, title=title, version=version))))
    return application


def _handler(endpoint: Endpoint, bodies: BodyReader) -> _Handler:
    bound, query, body, status = endpoint.handler, endpoint.query, endpoint.body, endpoint.mark.status
    scope, admit = endpoint.mark.scope, endpoint.admit

    async def handle(raw: web.Request) -> web.StreamResponse:
        """Check the scope, parse the request, call the route's handler and render its result."""
        request = Request(raw, raw.get(_GRANT, NOBODY))
        if scope is not None and scope not in request.grant.scopes:
            if admit is not None:
                await admit(request)  # a thing that the caller may not see is a 404, also if a scope is missing
            raise Forbidden(scope)
        arguments: dict[str, Any] = {}
        if query is not None:
            arguments["query"] = read_query(raw, query)
        elif endpoint.guarded:
            read_query(raw, NoQuery)
        if body is not None:
            arguments["body"] = await bodies.read(raw, body)
        return _response(await bound(request, **arguments), status)

    return handle


async def _without_slash(request: web.Request) -> web.StreamResponse:
    """308 to the same path without the slash at its end. The path is one of a route's, so it cannot lead to another host."""
    path, query = request.rel_url.raw_path.rstrip("/"), request.rel_url.raw_query_string
    return web.Response(status=308, headers={"Location": f"{path}?{query}" if query else path})


def _response(result: Any, status: int) -> web.StreamResponse:
    if isinstance(result, web.StreamResponse):
        return result
    headers = None
    if isinstance(result, Response):
        headers, status, result = dict(result.headers), result.status or status, result.body
    return web.Response(status=status, body=_json(result), headers=headers, content_type="application/json")


def _json(result: Any) -> bytes:
    if isinstance(result, bytes):
        return result
    if isinstance(result, BaseModel):
        return result.model_dump_json().encode()
    return orjson.dumps(result, default=_encoded)


def _encoded(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _gate(authenticator: Authenticator, public: Set[object]) -> Any:
    repeats = Repeats()

    @web.middleware
    async def gate(request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Authenticate the request, turn every exception into a problem, and write the access log."""
        began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else token_hex(16)
        grant = NOBODY
        guarded = request.match_info.handler not in public
        try:
            if guarded:
                request[_GRANT] = grant = await authenticator.grant(request.headers.get("Authorization"))
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - every error is a problem to the client
            response = problem_of(error, repeats)
        if not response.prepared:
            _headers(response, request_id, guarded=guarded)
        if request.path not in _QUIET:
            _log(request, response, grant, request_id, began)
        return response

    return gate


def _headers(response: web.StreamResponse, request_id: str, *, guarded: bool) -> None:
    response.headers["X-Request-ID"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    if guarded:
        response.headers.setdefault("Cache-Control", "no-store")


def _log(request: web.Request, response: web.StreamResponse, grant: Grant, request_id: str, began: float) -> None:
    log.info(
        "request",
        method=request.method,
        path=request.path[:300],
        status=response.status,
        ms=round((time.perf_counter() - began) * 1000, 2),
        token=grant.name or None,
        request_id=request_id,
    )
