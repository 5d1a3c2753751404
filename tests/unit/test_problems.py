"""What an error of a handler is for its client, and what the log says of it."""

import orjson
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from app.errors import DatabaseUnavailable, MissingTable, UniqueViolated
from app.http.problems import problem_of


def _detail(response: web.Response) -> str:
    assert isinstance(response.body, bytes)
    return str(orjson.loads(response.body)["detail"])


def test_an_error_of_a_file_is_a_fault_of_the_service_and_its_log_names_file_and_reason() -> None:
    with capture_logs() as logs:
        response = problem_of(OSError(28, "No space left on device", "/switch/directory/101.xml"))

    assert response.status == 500
    assert "/switch" not in _detail(response)
    assert logs[0]["reason"] == "/switch/directory/101.xml: No space left on device"


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionRefusedError(111, "Connection refused")])
def test_a_stray_network_error_is_not_taken_for_the_database(error: OSError) -> None:
    with capture_logs():
        response = problem_of(error)

    assert response.status == 500
    assert "database" not in _detail(response)


def test_a_database_that_is_away_is_503_and_its_reason_is_for_the_log_only() -> None:
    with capture_logs() as logs:
        response = problem_of(DatabaseUnavailable("the database does not answer; try again later", reason="10.0.0.9 refuses"))

    assert response.status == 503
    assert response.headers["Retry-After"]
    assert _detail(response) == "the database does not answer; try again later"
    assert (logs[0]["event"], logs[0]["reason"]) == ("database_unavailable", "10.0.0.9 refuses")


@pytest.mark.parametrize("kind", [MissingTable, UniqueViolated])
def test_a_refused_statement_is_a_fault_whose_text_stays_in_the_log(kind: type[MissingTable]) -> None:
    with capture_logs() as logs:
        response = problem_of(kind("the database refused a statement: a name"))

    assert response.status == 500
    assert "a name" not in _detail(response)
    assert logs[0]["reason"] == "the database refused a statement: a name"
