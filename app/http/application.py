"""The aiohttp application: every route behind one gate for tokens, problems, headers and the access log."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex
from typing import Any

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel

from app.access.audit.refusals import Refusals
from app.access.authenticator import Authenticator
from app.access.grant import NOBODY, Grant
from app.access.limits import DownloadLimit, Limits
from app.access.origin import Actor, Claim, Origin
from app.errors import DatabaseFailed, Forbidden
from app.http import secret_paths
from app.http.client import CLIENT, Client, Clients
from app.http.connection import SERVER
from app.http.docs import add_docs, add_front
from app.http.files import Streamed
from app.http.idempotency import HEADER, Idempotency
from app.http.metrics import Metrics, add_metrics
from app.http.openapi import describe
from app.http.parsing import BodyReader, NoQuery, check_encoding, read_query
from app.http.problems import problem_of
from app.http.requests import PROBES, RequestCounts
from app.http.routing import Endpoint, Request, Response, endpoints
from app.http.uploads import read_audio
from app.jobs.repeats import Repeats
from app.networks import client_of

log = structlog.get_logger(__name__)

LARGEST_BODY = 1024 * 1024
_GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)
_REQUEST_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Door:
    """What is asked about each request: who sends it, what its token grants, whether it came too often or a second time."""

    clients: Clients
    authenticator: Authenticator
    limits: Limits
    refusals: Refusals
    idempotency: Idempotency


def build(
    routes: Sequence[object],
    door: Door,
    metrics: Metrics | None,
    counts: RequestCounts,
    *,
    title: str,
    version: str,
    docs: bool = True,
) -> web.Application:
    """An application of the given route objects, with ``/openapi.json`` and ``/docs`` about them, and ``/metrics``.

    Without ``docs`` the first two are not there, and without ``measures`` the last is not.
    """
    public: set[object] = {_without_slash}  # the handlers that anybody may call; a path that no route has is not among them
    optional: set[object] = set()  # the public ones that tell more to some tokens
    middlewares = [counts.middleware(), _gate(door, public, optional)]
    application = web.Application(client_max_size=LARGEST_BODY, middlewares=middlewares)
    bodies = BodyReader()
    found = [endpoint for group in routes for endpoint in endpoints(group)]
    # Fixed paths first: /v1/voicemail/message is not an extension.
    for endpoint in sorted(found, key=lambda endpoint: "{" in endpoint.mark.path):
        handler = _handler(endpoint, bodies, door.limits.downloads, door.idempotency)
        if not endpoint.guarded:
            public.add(handler)
            if endpoint.takes_token:
                optional.add(handler)
        for method in ("GET", "HEAD") if endpoint.mark.method == "GET" else (endpoint.mark.method,):
            application.router.add_route(method, endpoint.mark.path, handler)
    for path in dict.fromkeys(endpoint.mark.path for endpoint in found):
        application.router.add_route("*", f"{path}/", _without_slash)
    public.add(add_front(application, docs=docs))
    if metrics is not None:
        public.add(add_metrics(application, metrics))
    if docs:
        public.update(add_docs(application, lambda: orjson.dumps(describe(found, title=title, version=version))))
    return application


def _handler(endpoint: Endpoint, bodies: BodyReader, downloads: DownloadLimit, idempotency: Idempotency) -> _Handler:
    bound, query, body, status = endpoint.handler, endpoint.query, endpoint.body, endpoint.mark.status
    scope, admit = endpoint.mark.scope, endpoint.admit
    repeatable = endpoint.guarded and endpoint.mark.method == "POST"

    async def handle(raw: web.Request) -> web.StreamResponse:
        """Check the scope, parse the request, call the route's handler and render its result."""
        request = Request(raw, raw.get(_GRANT, NOBODY))
        if scope is not None and scope not in request.grant.scopes:
            if admit is not None:
                await admit(request)  # a thing that the caller may not see is a 404, also if a scope is missing
            raise Forbidden(scope)
        if repeatable and HEADER in raw.headers:
            return await idempotency.answer(
                raw,
                request.grant,
                lambda claim: run(Request(raw, _claimed(request.grant, claim))),
                partial(read_audio, raw) if endpoint.mark.uploads else raw.read,
            )
        return await run(request)

    async def run(request: Request) -> web.StreamResponse:
        raw = request.raw
        arguments: dict[str, Any] = {}
        if query is not None:
            arguments["query"] = read_query(raw, query)
        elif endpoint.guarded:
            read_query(raw, NoQuery)
        if body is not None:
            arguments["body"] = await bodies.read(raw, body)
        return _response(await bound(request, **arguments), status)

    return _counted(handle, downloads) if endpoint.mark.streams else handle


def _counted(handle: _Handler, downloads: DownloadLimit) -> _Handler:
    """A handler of downloads, of which a token, or an address with links, may have only some under way."""

    async def counted(raw: web.Request) -> web.StreamResponse:
        end = downloads.begin(raw[_GRANT].name or f"links, {client_of(raw[CLIENT].address)}")
        response = None
        try:
            response = await handle(raw)
            return response
        finally:
            if isinstance(response, Streamed):
                response.when_over(end)  # aiohttp sends it after this
            else:
                end()

    return counted


def _claimed(grant: Grant, claim: Claim) -> Grant:
    return grant.asked_from(replace(grant.origin, claim=claim))


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


def _gate(door: Door, public: Set[object], optional: Set[object]) -> Any:
    repeats = Repeats()

    @web.middleware
    async def gate(request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Authenticate the request, turn every exception into a problem, and write the access log."""
        began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else token_hex(16)
        request[CLIENT] = client = door.clients.of(request)
        called = request.match_info.handler
        guarded = called not in public
        try:
            check_encoding(request)
            request[_GRANT] = NOBODY.asked_from(_origin(request, request_id, Actor.NOBODY))
            if guarded:
                await _admit(door, request, request_id)
            elif called in optional and request.headers.get("Authorization"):
                with suppress(DatabaseFailed):  # what anybody is told is told at least
                    await _admit(door, request, request_id)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - every error is a problem to the client
            response = problem_of(error, repeats)
            if guarded:
                door.refusals.note(error, request.get(_GRANT, NOBODY), client.address)
        if not response.prepared:
            _headers(response, request_id, guarded=guarded)
        if request.path not in PROBES:
            _log(request, response, client, request_id, began)
        return response

    return gate


async def _admit(door: Door, request: web.Request, request_id: str) -> None:
    """Note what the request's token grants. Raises ``Unauthorized`` and ``TooManyRequests``."""
    address = request[CLIENT].address
    grant = await door.authenticator.grant(request.headers.get("Authorization"), address)
    request[_GRANT] = grant.asked_from(_origin(request, request_id, Actor.TOKEN))
    door.limits.requests.count(grant.name)


def _origin(request: web.Request, request_id: str, actor: Actor) -> Origin:
    return Origin(actor, request[CLIENT].address, request_id, request.headers.get("User-Agent", ""))


def _headers(response: web.StreamResponse, request_id: str, *, guarded: bool) -> None:
    response.headers["Server"] = SERVER
    response.headers["X-Request-ID"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    if guarded:
        response.headers.setdefault("Cache-Control", "no-store")


def _log(request: web.Request, response: web.StreamResponse, client: Client, request_id: str, began: float) -> None:
    log.info(
        "request",
        method=request.method,
        path=secret_paths.shown(request.path)[:300],
        status=response.status,
        ms=round((time.perf_counter() - began) * 1000, 2),
        address=client.address or None,
        token=request.get(_GRANT, NOBODY).name or None,
        request_id=request_id,
    )
