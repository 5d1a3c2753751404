"""ConnectionLimits of the HTTP server: how many connections the descriptors allow, whose they are, and what the log says of clients."""

import resource

import pytest
import structlog

from app.http.client_errors import ClientErrors
from app.http.limits import ConnectionLimits, fit_descriptors


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (1024, 524288, 3156, 1000),
        (1024, resource.RLIM_INFINITY, 3156, 1000),
        (65536, 65536, None, 1000),
        (256, 256, 256, 46),
        (256, 1024, 1024, 382),
        (64, 64, 64, 8),
    ],
)
def test_connections_leave_descriptors_for_the_service(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, connections: int
) -> None:
    found: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: found.append(limits[0]))

    assert fit_descriptors(ConnectionLimits(), mails_at_once=10).connections == connections
    assert found == ([raised] if raised else [])


def test_a_flood_of_errors_is_a_line_a_minute() -> None:
    now = 0.0
    errors = ClientErrors(lambda: now)
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            errors.note("BadHttpMessage", "192.0.2.7")
        errors.tell()
        assert [line["count"] for line in lines] == [1]
        now = 61.0
        errors.tell()
        now = 200.0
        errors.tell()

    assert [(line["kind"], line["client"], line["count"]) for line in lines] == [
        ("BadHttpMessage", "192.0.2.7", 1),
        ("BadHttpMessage", "192.0.2.7", 999),
    ]


def test_errors_of_many_addresses_are_few_lines() -> None:
    errors = ClientErrors(lambda: 0.0)
    with structlog.testing.capture_logs() as lines:
        for number in range(5000):
            errors.note("SlowHead", f"10.0.{number // 250}.{number % 250}")

    assert len(lines) == 21
