"""Counts and traces requests by the template of their route, such as ``/v1/voicemail/{extension}``, never by the path."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import Counter, Histogram
from prometheus_client.registry import Collector

from app.tracing import Span, Tracing

UNMATCHED = "unmatched"  # a path that is no route's: as a label, anybody could make any number of them
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})  # neither logged nor traced
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestCounts:
    """The requests of one copy of the service."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._requests = Counter(
            "voicemail_http_requests",
            "Requests by route and status; 401 is a failed login, 429 a limit that was hit",
            ["method", "route", "status"],
            registry=None,
        )
        self._seconds = Histogram(
            "voicemail_http_request_seconds",
            "Seconds until the response was ready to be sent",
            ["method", "route"],
            buckets=_SECONDS,
            registry=None,
        )

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """What ``Metrics`` shows of them."""
        return self._requests, self._seconds

    def middleware(self) -> Any:
        """The application's outermost middleware."""

        @web.middleware
        async def counting(request: web.Request, handler: _Handler) -> web.StreamResponse:
            method = request.method if request.method in _METHODS else "other"
            route = route_of(request)
            if route in PROBES:
                return await self._counted(request, handler, method, route, None)
            with self._tracing.request(method, route, request.headers) as span:
                return await self._counted(request, handler, method, route, span)

        return counting

    async def _counted(
        self, request: web.Request, handler: _Handler, method: str, route: str, span: Span | None
    ) -> web.StreamResponse:
        began = time.perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - began)
            if span is not None:
                span.set_attribute("http.response.status_code", status)


def route_of(request: web.Request) -> str:
    """The template of the request's route."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else UNMATCHED
