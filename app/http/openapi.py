"""The OpenAPI 3.1 description of the routes, from the same models that check and render them."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app.http.routing import Endpoint

_REF = "#/components/schemas/{model}"
_VARIABLE = re.compile(r"\{(\w+)\}")


class FieldProblem(BaseModel):
    """One wrong field."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


def describe(endpoints: Sequence[Endpoint], *, title: str, version: str) -> dict[str, Any]:
    """The document for ``/openapi.json``."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "serialization")]
    for endpoint in endpoints:
        if endpoint.body is not None:
            models.append((endpoint.body, "validation"))
        if _is_model(endpoint.result):
            models.append((endpoint.result, "serialization"))
    references, definitions = models_json_schema(models, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, references)
        paths.setdefault(endpoint.mark.path, {})[endpoint.mark.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _is_model(result: Any) -> bool:
    return isinstance(result, type) and issubclass(result, BaseModel)


def _operation(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    mark = endpoint.mark
    operation: dict[str, Any] = {
        "summary": mark.summary,
        "operationId": f"{endpoint.tag}_{endpoint.handler.__name__}",
        "tags": [endpoint.tag],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, references),
    }
    if mark.description:
        operation["description"] = mark.description
    if endpoint.guarded:
        operation["security"] = [{"token": [endpoint.mark.scope]}]
    if endpoint.body is not None:
        schema = references[(endpoint.body, "validation")]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _VARIABLE.findall(endpoint.mark.path)
    ]
    if endpoint.query is not None:
        schema = TypeAdapter(endpoint.query).json_schema()
        for name, field in schema.get("properties", {}).items():
            required = name in schema.get("required", [])
            found.append({"name": name, "in": "query", "required": required, "schema": field})
    return found


def _responses(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    mark = endpoint.mark
    good: dict[str, Any] = {"description": mark.summary}
    if mark.streams:
        good["content"] = {mark.streams: {}}
    elif _is_model(endpoint.result):
        good["content"] = {"application/json": {"schema": references[(endpoint.result, "serialization")]}}
    responses: dict[str, Any] = {str(mark.status): good}
    if mark.path == "/readyz":
        responses["503"] = {**good, "description": "something is away"}
    if mark.streams:
        responses["206"] = {**good, "description": "a part of it, as Range asked"}
    for status, description in _problems(endpoint):
        schema = references[(Problem, "serialization")]
        responses[status] = {"description": description, "content": {"application/problem+json": {"schema": schema}}}
    return responses


def _problems(endpoint: Endpoint) -> list[tuple[str, str]]:
    if not endpoint.guarded:
        return []
    found = [("401", "no valid token"), ("403", f"the token lacks the scope {endpoint.mark.scope}")]
    if "{" in endpoint.mark.path:
        found.append(("404", "there is no such thing"))
    if endpoint.body is not None:
        found += [("400", "the body is not JSON"), ("413", "the body is larger than 1 MiB"), ("415", "the body is not JSON")]
    if endpoint.mark.method == "POST":
        found.append(("409", "it exists already"))
    if endpoint.body is not None or endpoint.query is not None:
        found.append(("422", "some fields are wrong"))
    return [*sorted(found), ("503", "the database does not answer")]
