"""/openapi.json and /docs say what the service does; a tester that reads them finds no lie."""

import asyncio
import re
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from pbx import TOKEN, Site
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture
async def document(api: Site) -> dict[str, Any]:
    return await api.get("/openapi.json")


async def test_it_is_a_valid_openapi_3_1_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


async def test_every_call_of_the_contract_is_in_it(document: dict[str, Any]) -> None:
    found = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}

    assert found >= {
        "GET /v1/voicemail", "POST /v1/voicemail", "GET /v1/voicemail/{key}", "PUT /v1/voicemail/{key}", "DELETE /v1/voicemail/{key}",
        "GET /v1/voicemail/message", "GET /v1/voicemail/message/{key}", "GET /v1/voicemail/message/{key}/download",
        "GET /v1/voicemail/message/{key}/notification", "GET /healthz", "GET /readyz",
    }  # fmt: skip


async def test_the_page_loads_nothing_from_elsewhere(api: Site) -> None:
    async with aiohttp.ClientSession(api.client._base_url) as nobody:
        async with nobody.get("/docs") as answer:
            page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert answer.status == 200
        assert "default-src 'none'" in policy
        sources = re.findall(r"(?:src|href|url)=\"([^\"]+)\"", page)
        assert sources
        for source in sources:
            assert source.startswith("/")
            async with nobody.get(source) as answer:
                assert answer.status == 200


async def test_what_a_tester_makes_up_from_it_is_answered_as_it_says(api: Site, document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    url = str(api.client._base_url).rstrip("/")

    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS, timeout=20)

    def run() -> list[str]:
        tried = []
        for result in schema.get_all_operations():
            operation = result.ok()
            strategy = operation.as_strategy()
            test = settings(
                max_examples=15, deadline=None, database=None, derandomize=True,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )(given(case=strategy)(check))  # fmt: skip
            test()
            tried.append(operation.label)
        return tried

    tried = await asyncio.to_thread(run)

    assert len(tried) == sum(len(methods) for methods in document["paths"].values())
