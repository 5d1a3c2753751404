"""``/metrics``: what Prometheus is told, which anybody in the operator's network may read."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator

import orjson
import pytest
import structlog
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from app.errors import DatabaseUnavailable
from app.http.metrics import Measure, Metrics, Shared, TableGauges, add_metrics
from app.http.requests import RequestCounts
from app.tracing import Tracing
from tests.support.pbx import CHECKOUT, Site

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(api: Site) -> Samples:
    """Every sample by its name and labels."""
    async with api.client.get("/metrics", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
        text = await answer.text()
    return samples_of(text)


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample; 0 if there is none, as for a counter with labels that nothing counted yet."""
    return samples.get((name, frozenset(labels.items())), 0.0)


async def until(api: Site, name: str, more_than: float, **labels: str) -> None:
    for _ in range(150):
        if value(await scrape(api), name, **labels) > more_than:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{name} stayed at {more_than}")


async def test_requests_are_counted_by_the_template_of_their_route(api: Site, extension: str) -> None:
    before = await scrape(api)

    await api.client.get(f"/v1/voicemail/{extension}")
    await api.client.get("/v1/voicemail/ex%2Ftension%0A%22")
    for path in ("/wp-login.php", '/a"b', "/%0Avoicemail_switch_up%200"):
        await api.client.get(path)
    await api.client.request("PROPFIND", "/v1/voicemail")
    await api.client.get("/v1/voicemail", headers={"Authorization": "Bearer wrong"})

    after = await scrape(api)

    def more(method: str, route: str, status: str) -> float:
        labels = {"method": method, "route": route, "status": status}
        return value(after, "voicemail_http_requests_total", **labels) - value(before, "voicemail_http_requests_total", **labels)

    assert more("GET", "/v1/voicemail/{key}", "404") >= 1
    assert more("GET", "/v1/voicemail", "401") == 1
    assert sum(more("GET", "unmatched", status) for status in ("404", "401")) == 3
    assert sum(more("other", route, status) for route in ("unmatched", "/v1/voicemail") for status in ("404", "405", "401")) == 1
    assert value(after, "voicemail_http_request_seconds_count", method="GET", route="/metrics") >= 1
    paths = {route for _, labels in after for key, route in labels if key == "route"}
    assert not [path for path in paths if "wp-login" in path or "\n" in path or extension in path]


async def test_a_call_moves_the_numbers_of_every_stage(api: Site, extension: str) -> None:
    before = await scrape(api)

    await api.create(extension)
    await api.switch.leave_message(extension)
    await until(api, "voicemail_mails_total", value(before, "voicemail_mails_total", outcome="sent"), outcome="sent")

    await until(api, "voicemail_recordings_indexed_total", value(before, "voicemail_recordings_indexed_total"))
    after = await scrape(api)
    for name, labels in {
        "voicemail_intake_lag_seconds_count": {},
        "voicemail_reload_seconds_count": {"result": "ok"},
    }.items():
        assert value(after, name, **labels) > value(before, name, **labels), name
    assert value(after, "voicemail_switch_up") == 1
    assert value(after, "voicemail_database_up") == 1
    assert value(after, "voicemail_jobs_taken") == 1
    assert value(after, "voicemail_database_connections_most", pool="service") == 20
    assert ("voicemail_directory_entries", frozenset({("state", "failed")})) in after


async def test_each_number_has_a_help_text_and_none_holds_an_address(api: Site, extension: str) -> None:
    await api.create(extension, mail_to="somebody@example.com")
    async with api.client.get("/metrics") as answer:
        text = await answer.text()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name for name, family in families.items() if not family.documentation.strip()} == set()
    assert "somebody@example.com" not in text
    assert extension not in text


async def test_what_the_documents_and_deploy_name_is_there(api: Site) -> None:
    """The dashboard, the alerts and the list in the operations guide."""
    async with api.client.get("/metrics") as answer:
        families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
    ours = {name for name in families if name.startswith("voicemail_")}
    series = {
        f"{name}{suffix}"
        for name, family in families.items()
        for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
    }
    dashboard = orjson.loads((CHECKOUT / "deploy/grafana.json").read_bytes())
    alerts = yaml.safe_load((CHECKOUT / "deploy/alerts.yml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    section = (
        (CHECKOUT / "docs/operations.md").read_text().partition("### Numbers for Prometheus")[2].partition("\n\nWork in the")[0]
    )
    guide = re.findall(r"^\| `(voicemail_\w+)`", section, re.M)

    named = {name for expression in asked for name in re.findall(r"\b(?:voicemail|process)_\w+", expression)}

    assert named - series == set()
    assert {name.removesuffix("_total") for name in guide} == ours, "docs/operations.md lists every number"
    assert len(guide) == len(set(guide))


async def test_probes_are_not_logged(api: Site) -> None:
    with structlog.testing.capture_logs() as logs:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/voicemail"):
            await api.client.get(path)

    assert [line["path"] for line in logs if line["event"] == "request"] == ["/v1/voicemail"]


async def test_copies_share_the_tables_and_count_for_themselves(alone: list[TestClient]) -> None:
    async def read() -> dict[str, dict[str, float]]:
        return {"rows": {"": 3}}

    copies = [RequestCounts(Tracing()), RequestCounts(Tracing())]
    clients = []
    for counts in copies:
        metrics = Metrics({}, counts.collectors, [TableGauges({"rows": Shared("Rows")}, read)])
        clients.append(await served(metrics, alone, counts))
    await clients[0].get("/metrics")

    first, second = [samples_of(await (await client.get("/metrics")).text()) for client in clients]
    labels = {"method": "GET", "route": "/metrics", "status": "200"}
    assert value(first, "voicemail_http_requests_total", **labels) == 1
    assert value(second, "voicemail_http_requests_total", **labels) == 0
    assert value(first, "rows") == value(second, "rows") == 3


def test_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "rules", CHECKOUT / "deploy/alerts.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
async def alone() -> AsyncIterator[list[TestClient]]:
    clients: list[TestClient] = []
    yield clients
    for client in clients:
        await client.close()


async def served(metrics: Metrics, alone: list[TestClient], counts: RequestCounts | None = None) -> TestClient:
    application = web.Application(middlewares=[counts.middleware()] if counts else [])
    add_metrics(application, metrics)
    client = TestClient(TestServer(application))
    await client.start_server()
    alone.append(client)
    return client


async def test_a_crowd_of_scrapes_reads_the_tables_once(alone: list[TestClient]) -> None:
    asked = 0

    async def read() -> dict[str, dict[str, float]]:
        nonlocal asked
        asked += 1
        return {"rows": {"": 3}}

    client = await served(Metrics({}, tables=[TableGauges({"rows": Shared("Rows")}, read)]), alone)
    texts = [await (await client.get("/metrics")).text() for _ in range(20)]

    assert asked == 1
    assert all("rows 3.0" in text.splitlines() for text in texts)


async def test_numbers_that_are_costly_to_read_are_kept_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    asked = 0
    monkeypatch.setattr("app.http.metrics.time.monotonic", lambda: now)

    async def read() -> dict[str, dict[str, float]]:
        nonlocal asked, now
        asked, now = asked + 1, now + 0.25
        return {"rows": {"": 3}}

    table = TableGauges({"rows": Shared("Rows")}, read, keep=5.0)
    for _ in range(25):
        assert await table.refresh()
        now += 1
    assert asked == 1
    await table.refresh()
    assert asked == 2


async def test_after_an_outage_the_numbers_are_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now, away = 1000.0, True
    monkeypatch.setattr("app.http.metrics.time.monotonic", lambda: now)

    async def read() -> dict[str, dict[str, float]]:
        nonlocal now
        now += 2
        if away:
            raise DatabaseUnavailable("away")
        return {"rows": {"": 3}}

    table = TableGauges({"rows": Shared("Rows")}, read, keep=5.0)
    assert not await table.refresh()
    away = False
    now += 4
    assert not await table.refresh()
    now += 1
    assert await table.refresh()


async def test_without_the_database_the_numbers_of_this_process_are_still_told(
    alone: list[TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.http.metrics._COSTLY", 0)
    away = True

    async def read() -> dict[str, dict[str, float]]:
        if away:
            raise DatabaseUnavailable("away")
        return {"rows": {"a": 3}}

    tables = [TableGauges({"rows": Shared("Rows", "kind")}, read, keep=0)]
    client = await served(Metrics({"up": Measure("Up", lambda: True)}, tables=tables), alone)

    told = samples_of(await (await client.get("/metrics")).text())
    assert value(told, "up") == 1
    assert value(told, "voicemail_database_up") == 0
    assert ("rows", frozenset({("kind", "a")})) not in told

    away = False
    told = samples_of(await (await client.get("/metrics")).text())
    assert value(told, "voicemail_database_up") == 1
    assert value(told, "rows", kind="a") == 3


async def test_a_database_that_hangs_does_not_hang_a_scrape(alone: list[TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http.metrics._LIMIT", 0.05)

    async def read() -> dict[str, dict[str, float]]:
        await asyncio.Event().wait()
        return {}

    client = await served(Metrics({}, tables=[TableGauges({"rows": Shared("Rows")}, read)]), alone)

    told = samples_of(await (await client.get("/metrics")).text())
    assert value(told, "voicemail_database_up") == 0
