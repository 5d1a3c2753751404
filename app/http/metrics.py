"""``/metrics``: numbers in the text format of Prometheus, for the operator's network; no token is needed.

Each copy of the service reports its own counters. A ``TableGauges`` is about the tables, which all copies share and report alike.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.errors import VoicemailError

log = structlog.get_logger(__name__)

_LIMIT = 2.0  # seconds for one reading: a scrape must not wait for a database that hangs

_LONGEST = 60.0  # seconds in the cache
_COSTLY = 100  # numbers are kept this many times as long as their reading took: a huge backlog must not become a load

Numbers = Mapping[str, float]  # by the values of the label


@dataclass(frozen=True, slots=True)
class Measure:
    """A gauge of this process: a function that returns its value, or with a ``label`` its value for each value of that."""

    about: str
    value: Callable[[], float | Numbers]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Shared:
    """A gauge about the tables, which all copies of the service report alike."""

    about: str
    label: str = ""


class TableGauges:
    """Shared gauges that one cheap statement reads; its result is cached, so that a scrape costs the database nothing."""

    def __init__(
        self, gauges: Mapping[str, Shared], read: Callable[[], Awaitable[Mapping[str, Numbers]]], *, keep: float = 5.0
    ) -> None:
        """``read`` returns the numbers of each gauge; one without a label has the key "". ``keep``: seconds in the cache."""
        self.gauges = gauges
        self._read = read
        self._keep = keep
        self._lock = asyncio.Lock()
        self._due = 0.0
        self._found: Mapping[str, Numbers] | None = None

    async def refresh(self) -> bool:
        """Read again if the cached numbers are too old; whether there are numbers. A failure is cached as well."""
        async with self._lock:
            if time.monotonic() >= self._due:
                began = time.monotonic()
                self._found = await self._fresh()
                took = time.monotonic() - began
                costly = min(_COSTLY * took, _LONGEST) if self._found is not None else 0.0
                self._due = began + took + max(self._keep, costly)
        return self._found is not None

    async def _fresh(self) -> Mapping[str, Numbers] | None:
        try:
            return await asyncio.wait_for(self._read(), _LIMIT)
        except (VoicemailError, TimeoutError) as error:
            log.debug("metrics_unread", gauges=sorted(self.gauges), error=type(error).__name__)
            return None

    def families(self) -> Iterator[Metric]:
        """The gauges with their cached numbers; no number while the tables cannot be read."""
        for name, gauge in self.gauges.items():
            yield _family(name, gauge.about, gauge.label, (self._found or {}).get(name, {}))


@dataclass(frozen=True, slots=True, eq=False)  # the registry keeps it by identity
class _Gauges(Collector):
    """All measures and gauges of tables, in the form that prometheus-client asks for."""

    measures: Mapping[str, Measure]
    tables: tuple[TableGauges, ...]

    def collect(self) -> Iterator[Metric]:
        for name, measure in self.measures.items():
            value = measure.value()
            yield _family(name, measure.about, measure.label, value if isinstance(value, Mapping) else {"": value})
        for table in self.tables:
            yield from table.families()

    def describe(self) -> Iterable[Metric]:
        """Their names, for the registry to refuse one that is taken; no function of a measure is called for that."""
        for name, measure in self.measures.items():
            yield _family(name, measure.about, measure.label, {})
        for table in self.tables:
            for name, gauge in table.gauges.items():
                yield _family(name, gauge.about, gauge.label, {})


class Metrics:
    """Everything that ``/metrics`` shows."""

    def __init__(
        self, measures: Mapping[str, Measure], collectors: Iterable[Collector] = (), tables: Iterable[TableGauges] = ()
    ) -> None:
        """``collectors``: counters and histograms that their owners made with ``registry=None``."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nothing needs
        self._tables = tuple(tables)
        self._database_up = False
        self._registry = CollectorRegistry()
        about = "Whether this copy could read its tables for this scrape; if not, the numbers about tables are missing"
        own = {"voicemail_database_up": Measure(about, lambda: self._database_up)}
        self._registry.register(_Gauges({**own, **measures}, self._tables))
        for collector in collectors:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    async def text(self) -> bytes:
        """The text that a scrape is answered with."""
        read = await asyncio.gather(*(table.refresh() for table in self._tables))
        self._database_up = all(read)
        return generate_latest(self._registry)


def add_metrics(application: web.Application, metrics: Metrics) -> object:
    """Serve ``/metrics``; the handler, which needs no token."""

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application.router.add_get("/metrics", show)
    return show


def _family(name: str, about: str, label: str, numbers: Numbers) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label] if label else [])
    for value, number in numbers.items():
        family.add_metric([value] if label else [], number)
    return family
