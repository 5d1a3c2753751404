"""Traces for an OpenTelemetry collector, if VOICEMAIL_OTLP_ENDPOINT is set: a span for each request and for each job.

Nothing is patched. A span has the route's template, the method, the status and the kind of job: no path, no query, no address.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from app.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(__name__)

SETTING = "VOICEMAIL_OTLP_ENDPOINT"
_EXPORT = 5.0  # seconds for one batch
_CLOSE = 1.5  # seconds for the last batch when the service stops
_NO_EXTRA = "needs the extra `otel`, which is not installed: install the same wheel or checkout again as …[otel]"


class Span(Protocol):
    """Something that is measured."""

    def set_attribute(self, name: str, value: Any, /) -> None:
        """Note a fact about it."""


class Tracing:
    """Begins spans; without a collector it does nothing, and costs nothing worth a measurement."""

    def request(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[Span | None]:  # noqa: ARG002
        """A span for a request, a child of the caller's span if its ``traceparent`` header names one."""
        return nullcontext()

    def job(self, entrypoint: str) -> AbstractContextManager[Span | None]:  # noqa: ARG002
        """A span for a job."""
        return nullcontext()


class _Exporting(Tracing):
    def __init__(self, endpoint: str, version: str, stack: AsyncExitStack) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT)
        resource = Resource.create({"service.name": "freeswitch-voicemail", "service.version": version})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_told(exporter)))
        self._tracer = provider.get_tracer("freeswitch-voicemail", version)
        self._caller = TraceContextTextMapPropagator()
        self._server, self._consumer = SpanKind.SERVER, SpanKind.CONSUMER
        self._provider = provider
        stack.push_async_callback(self._close)

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[Span]:
        caller = self._caller.extract({"traceparent": headers.get("traceparent", "")})
        # The text of an exception may quote private data.
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            caller,
            self._server,
            {"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    @contextmanager
    def job(self, entrypoint: str) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            f"job {entrypoint}", None, self._consumer, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    async def _close(self) -> None:
        """Send what is left, but do not hold up the stop: a collector that is away costs its last spans."""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._provider.force_flush, int(_CLOSE * 1000)), _CLOSE)
        except TimeoutError:
            log.debug("traces_dropped")


def _told(exporter: "SpanExporter") -> "SpanExporter":
    """The exporter, which logs when a trouble begins and ends, and not each batch."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    class Told(SpanExporter):
        trouble = False

        def export(self, spans: Any) -> SpanExportResult:
            result = exporter.export(spans)
            failed = result is not SpanExportResult.SUCCESS
            if failed and not self.trouble:
                log.warning("traces_waiting", reason="the collector does not take them; they are dropped meanwhile")
            if self.trouble and not failed:
                log.info("traces_working")
            self.trouble = failed
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Told()


def open_tracing(endpoint: str, version: str, stack: AsyncExitStack) -> Tracing:
    """Traces to this collector, none if it is empty; ``stack`` closes them. Raises ``SettingsError`` without the extra."""
    if not endpoint:
        return Tracing()
    try:
        return _Exporting(endpoint, version, stack)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in {"opentelemetry", "requests"}:
            raise
        raise SettingsError.field(SETTING, _NO_EXTRA) from None
