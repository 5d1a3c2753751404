"""``/metrics``: numbers in the text format of Prometheus, for the operator's network; no token is needed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


@dataclass(frozen=True, slots=True)
class Measure:
    """A function that returns the current value of a number of this process."""

    about: str
    value: Callable[[], float]


def add_metrics(application: web.Application, measures: Mapping[str, Measure]) -> object:
    """Serve these measures by name; the handler, which needs no token."""
    registry = CollectorRegistry()
    for name, measure in measures.items():
        Gauge(name, measure.about, registry=registry).set_function(measure.value)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application.router.add_get("/metrics", metrics)
    return metrics
