"""Traces: what an OpenTelemetry collector is sent, and that a service without one, or with one that is away, works the same."""

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.errors import SettingsError
from app.http.requests import RequestCounts
from app.tracing import Tracing, open_tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP, or refuses it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status = 200
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        return web.Response(status=self.status)

    def spans(self) -> list:
        proto = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        messages = [proto.ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span for message in messages for all_ in message.resource_spans for some in all_.scope_spans for span in some.spans
        ]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    pytest.importorskip("opentelemetry.sdk")
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    async with TestServer(application) as server:
        collector.url = str(server.make_url(""))
        yield collector


async def ask(tracing: Tracing, *paths: str, **headers: str) -> None:
    """Requests to a small application that is traced."""

    async def mailbox(request: web.Request) -> web.Response:
        if request.match_info["key"] == "broken":
            raise RuntimeError("a secret in an exception")
        return web.Response()

    application = web.Application(middlewares=[RequestCounts(tracing).middleware()])
    application.router.add_get("/v1/voicemail/{key}", mailbox)
    application.router.add_get("/healthz", mailbox)
    async with TestClient(TestServer(application)) as client:
        for path in paths:
            await client.get(path, headers=headers)


async def test_requests_and_jobs_are_spans_without_private_data(collector: Collector) -> None:
    async with AsyncExitStack() as stack:
        tracing = open_tracing(collector.url, "1.2.3", stack)
        await ask(
            tracing, "/v1/voicemail/4711?search=alice", "/v1/voicemail/broken", "/wp-login.php", "/healthz", traceparent=PARENT
        )
        with tracing.job("notify"):
            pass

    spans = {span.name: span for span in collector.spans()}
    assert sorted(spans) == ["GET /v1/voicemail/{key}", "GET unmatched", "job notify"]
    first = next(span for span in collector.spans() if span.name == "GET /v1/voicemail/{key}")
    assert first.trace_id.hex() == PARENT.split("-")[1]
    assert first.parent_span_id.hex() == PARENT.split("-")[2]
    assert {one.key: one.value.int_value for one in first.attributes}["http.response.status_code"] == 200
    sent = b"".join(collector.bodies)
    assert b"freeswitch-voicemail" in sent
    assert b"1.2.3" in sent
    assert not [word for word in (b"4711", b"alice", b"secret", b"wp-login", b"Traceback") if word in sent]


@pytest.mark.parametrize("header", ["", "x", "00-zz-zz-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é" * 300])
async def test_a_malformed_parent_is_none(collector: Collector, header: str) -> None:
    async with AsyncExitStack() as stack:
        await ask(open_tracing(collector.url, "1", stack), "/v1/voicemail/1", traceparent=header)

    (span,) = collector.spans()
    assert span.parent_span_id == b""


async def test_a_collector_that_refuses_is_told_once(collector: Collector) -> None:
    collector.status = 400
    with structlog.testing.capture_logs() as logs:
        async with AsyncExitStack() as stack:
            tracing = open_tracing(collector.url, "1", stack)
            for _ in range(3):
                with tracing.job("notify"):
                    pass
                await asyncio.to_thread(tracing._provider.force_flush, 3000)  # type: ignore[attr-defined]
            collector.status = 200
            with tracing.job("notify"):
                pass

    assert [line["event"] for line in logs] == ["traces_waiting", "traces_working"]


async def test_a_collector_that_is_away_holds_up_neither_requests_nor_the_stop(unused_port: int) -> None:
    pytest.importorskip("opentelemetry.sdk")
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        await ask(open_tracing(f"http://127.0.0.1:{unused_port}", "1", stack), "/v1/voicemail/1")


async def test_without_a_collector_nothing_is_loaded_or_begun() -> None:
    async with AsyncExitStack() as stack:
        tracing = open_tracing("", "1", stack)
        await ask(tracing, "/v1/voicemail/1")

        assert type(tracing) is Tracing


async def test_without_the_extra_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    async with AsyncExitStack() as stack:
        with pytest.raises(SettingsError) as found:
            open_tracing("http://127.0.0.1:4318", "1", stack)

    assert "VOICEMAIL_OTLP_ENDPOINT" in str(found.value.errors)
    assert "[otel]" in str(found.value.errors)
