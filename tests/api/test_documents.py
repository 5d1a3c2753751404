"""/openapi.json and /docs say what the service does; a tester that reads them finds no lie."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from app.addressing import Extension
from app.errors import Invalid
from tests.support.pbx import TOKEN, Site


@pytest.fixture
async def document(api: Site) -> dict[str, Any]:
    return await api.get("/openapi.json")


async def test_it_is_a_valid_openapi_3_1_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    from openapi_spec_validator import validate  # slow to load, as below

    validate(document)


async def test_every_call_of_the_contract_is_in_it(document: dict[str, Any]) -> None:
    found = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}

    assert found >= {
        "GET /v1/voicemail", "POST /v1/voicemail", "GET /v1/voicemail/{key}", "PUT /v1/voicemail/{key}", "DELETE /v1/voicemail/{key}",
        "GET /v1/voicemail/message", "GET /v1/voicemail/message/{key}", "GET /v1/voicemail/message/{key}/download",
        "GET /v1/voicemail/message/{key}/notification", "GET /healthz", "GET /readyz",
    }  # fmt: skip


KEYWORDS = {
    "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum",
    "format", "items", "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum", "pattern", "properties", "required", "title", "type",
}  # fmt: skip


def schemas_in(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and every schema inside it."""
    if isinstance(schema, dict):
        yield schema
        for part in (
            *schema.get("properties", {}).values(),
            *schema.get("anyOf", []),
            schema.get("items"),
            schema.get("additionalProperties"),
        ):
            yield from schemas_in(part)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation, with its method and path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


async def test_its_schemas_hold_keywords_that_json_schema_has(document: dict[str, Any]) -> None:
    roots = list(document["components"]["schemas"].values())
    for _, _, operation in operations(document):
        roots += [parameter["schema"] for parameter in operation["parameters"]]
        roots += [
            content["schema"] for answer in operation["responses"].values() for content in answer.get("content", {}).values()
        ]
    found = [schema for root in roots for schema in schemas_in(root)]

    assert len(found) > 50
    for schema in found:
        assert set(schema) <= KEYWORDS, schema
        re.compile(schema.get("pattern", ""))
        if reference := schema.get("$ref"):
            assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


async def test_requests_have_no_defaults_and_say_where_null_is_forgiven(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bodies = [
        schemas[operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
        for _, _, operation in operations(document) if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]  # fmt: skip

    assert bodies
    for body in bodies:
        assert body["examples"]
        assert body["additionalProperties"] is False
        assert not any("default" in schema for schema in schemas_in(body))
    for _, _, operation in operations(document):
        assert not any("default" in parameter["schema"] for parameter in operation["parameters"])
    new = schemas["MailboxIn"]
    assert new["properties"]["local_after_email"]["type"] == ["boolean", "null"]
    assert new["properties"]["enabled"]["type"] == "boolean"
    assert (new["properties"]["extension"]["minLength"], new["properties"]["extension"]["maxLength"]) == (1, 64)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("101", True), ("*97", True), ("..1", True), ("messages", True), ("z" * 64, True), ("z" * 65, False), ("", False), ("..", False),
        ("_-.", False), ("message", False), ("_all_", False), ("a b", False), ("12345678-1234-1234-1234-12345678ABCD", False),
    ],
)  # fmt: skip
async def test_its_pattern_for_extensions_is_the_service_s_own(document: dict[str, Any], name: str, right: bool) -> None:
    pattern = document["components"]["schemas"]["MailboxIn"]["properties"]["extension"]["pattern"]

    assert bool(re.search(pattern, name)) is right
    if right:
        assert Extension.parse(name) == name
    else:
        with pytest.raises(Invalid):
            Extension.parse(name)


async def test_every_operation_has_a_name_a_tag_and_its_errors(document: dict[str, Any]) -> None:
    found = {operation["operationId"] for _, _, operation in operations(document)}

    assert len(found) == len(list(operations(document)))
    assert found >= {
        "listMailboxes", "createMailbox", "getMailbox", "replaceMailbox", "updateMailbox", "deleteMailbox", "listMessages", "getMessage",
        "downloadRecording", "getNotification", "checkHealth", "checkReadiness",
    }  # fmt: skip
    assert document["servers"]
    assert document["info"]["license"]["identifier"] == "MIT"
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for method, path, operation in operations(document):
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        assert re.fullmatch(r"[a-z]+(?:[A-Z][a-z]+)+", operation["operationId"])
        assert any(status.startswith("4") for status in operation["responses"])
        assert (bool(operation["security"]) and {} not in operation["security"]) is path.startswith("/v1/")
        if path.startswith("/v1/"):
            assert {"401", "422", "429", "503"} <= set(operation["responses"])
        # Messages have no ETag: a phone may change them at any time. A link never changes, so nobody can have read another version of it.
        if method in ("put", "patch", "delete") and path.startswith("/v1/voicemail") and "/message" not in path:
            assert "412" in operation["responses"]
    audio = document["paths"]["/v1/voicemail/message/{key}/download"]["get"]["responses"]["200"]["content"]
    assert audio["audio/wav"]["schema"] == {"type": "string", "format": "binary"}


@pytest.mark.skipif(shutil.which("redocly") is None, reason="redocly is not on PATH (npm install --global @redocly/cli)")
async def test_redocly_finds_nothing_in_it(document: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        "redocly", "lint", "--max-problems=20", str(file), cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, output.decode()
    assert b"generated by the" not in output, output.decode()  # a warning of a rule


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
    # Loaded here: every process of the suite reads this file, and loading these takes longer than most tests.
    import schemathesis
    from hypothesis import strategies
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    for kind in ("audio/wav", "audio/mpeg", "audio/ogg"):
        schemathesis.openapi.media_type(kind, strategies.binary(max_size=200))
    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
    ]
    schema = schemathesis.openapi.from_dict(document)
    url = str(api.client._base_url).rstrip("/")

    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, checks=wanted, timeout=20)

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
