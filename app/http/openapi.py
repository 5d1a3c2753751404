"""The OpenAPI 3.1 description of the routes, from the same models that check and render them."""

import inspect
import re
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import is_typeddict

from app.http.conditions import is_conditional
from app.http.idempotency import HEADER, PATTERN
from app.http.routing import Endpoint
from app.http.schemas import parameter_schema, request_schema

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
    more_errors: Annotated[int, Field(default=0, description="how many fields are wrong beside those in errors")]


def describe(endpoints: Sequence[Endpoint], *, title: str, version: str) -> dict[str, Any]:
    """The document for ``/openapi.json``."""
    shapes: dict[tuple[Any, JsonSchemaMode], TypeAdapter[Any]] = {(Problem, "serialization"): TypeAdapter(Problem)}
    for endpoint in endpoints:
        if endpoint.body is not None:
            shapes[(endpoint.body, "validation")] = TypeAdapter(endpoint.body)
        if _is_shape(endpoint.result):
            shapes[(endpoint.result, "serialization")] = TypeAdapter(endpoint.result)
    inputs = [(shape, mode, adapter) for (shape, mode), adapter in shapes.items()]
    references, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    schemas = definitions.get("$defs", {})
    for endpoint in endpoints:
        if endpoint.body is not None:
            name = references[(endpoint.body, "validation")]["$ref"].rpartition("/")[2]
            schemas[name] = request_schema(schemas[name])
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, references)
        paths.setdefault(endpoint.mark.path, {})[endpoint.mark.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "/", "description": "this service"}],
        "tags": [{"name": tag, "description": about} for tag, about in _tags(endpoints).items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _tags(endpoints: Sequence[Endpoint]) -> dict[str, str]:
    """Each class of routes and what its docstring says first."""
    return {
        endpoint.tag: (inspect.getdoc(getattr(endpoint.handler, "__self__", None)) or "").partition("\n")[0]
        for endpoint in endpoints
    }


def _is_shape(result: Any) -> bool:
    """Whether a handler's result is described by a schema: a TypedDict, also a generic one, or a model."""
    plain = typing.get_origin(result) or result
    return is_typeddict(plain) or (isinstance(plain, type) and issubclass(plain, BaseModel))


def _operation(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    mark = endpoint.mark
    operation: dict[str, Any] = {
        "summary": mark.summary,
        "operationId": operation_id(endpoint),
        "tags": [endpoint.tag],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, references),
    }
    if mark.description:
        operation["description"] = mark.description
    operation["security"] = _security(endpoint)
    if endpoint.body is not None:
        schema = references[(endpoint.body, "validation")]
        required = not getattr(endpoint.body, "OPTIONAL_BODY", False)
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    if mark.uploads:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(mark.uploads, binary)}
    return operation


def _security(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.guarded:
        return [{"token": [endpoint.mark.scope]}]
    return [{}, {"token": [endpoint.mark.optional_scope]}] if endpoint.takes_token else []


_VERBS = {"show": "get", "remove": "delete"}


def operation_id(endpoint: Endpoint) -> str:
    """A verb and a noun: a handler that is named by a verb alone is about what its class is about."""
    words = endpoint.handler.__name__.split("_")
    if len(words) == 1:
        noun = endpoint.tag
        if words[0] == "list":
            noun += "es" if noun.endswith("x") else "s"
        words = [_VERBS.get(words[0], words[0]), noun]
    return words[0] + "".join(word.capitalize() for word in words[1:])


_KEY = {"description": "an id or an extension", "schema": {"type": "string", "minLength": 1, "examples": ["101"]}}
_SLOT = {
    "description": "a greeting, 1 to 9, or the recorded name",
    "schema": {"type": "string", "pattern": "^([1-9]|name)$", "examples": ["1"]},
}


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, **(_SLOT if name == "slot" else _KEY)}
        for name in _VARIABLE.findall(endpoint.mark.path)
    ]
    if endpoint.query is not None:
        schema = TypeAdapter(endpoint.query).json_schema()
        for name, field in schema.get("properties", {}).items():
            required = name in schema.get("required", [])
            found.append({"name": name, "in": "query", "required": required, "schema": parameter_schema(field)})
    if is_conditional(endpoint.handler):
        about = "the ETag that was read; if the thing was changed since, nothing is done"
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "description": about,
                "schema": {"type": "string", "examples": ['"5d41402abc4b"']},
            }
        )
    if endpoint.guarded and endpoint.mark.method == "POST":
        about = "a request with the same key and content within a day is not done again, and gets the first answer"
        schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": PATTERN, "examples": ["9d1f5c4e-order-17"]}
        found.append({"name": HEADER, "in": "header", "required": False, "description": about, "schema": schema})
    return found


def _responses(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    mark = endpoint.mark
    good: dict[str, Any] = {"description": mark.summary}
    if mark.streams:
        good["content"] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in mark.streams}
    elif _is_shape(endpoint.result):
        good["content"] = {"application/json": {"schema": references[(endpoint.result, "serialization")]}}
    responses: dict[str, Any] = {str(mark.status): good}
    if mark.path == "/readyz":
        responses["503"] = {**good, "description": "the database or the switch's tables cannot be used"}
    if _has_ranges(endpoint):
        responses["304"] = {"description": "the client has it already, as If-None-Match or If-Modified-Since says"}
        responses["206"] = {**good, "description": "a part of it, as Range asked"}
    if not endpoint.guarded:
        responses["400"] = {"description": "this is not HTTP that can be read"}
    for status, description in _problems(endpoint):
        schema = references[(Problem, "serialization")]
        responses[status] = {"description": description, "content": {"application/problem+json": {"schema": schema}}}
    if "429" in responses:
        about = "in how many seconds to try again"
        responses["429"]["headers"] = {"Retry-After": {"description": about, "schema": {"type": "integer", "minimum": 1}}}
    return responses


def _has_ranges(endpoint: Endpoint) -> bool:
    return bool(endpoint.mark.streams) and endpoint.mark.method == "GET"


def _names_domain(endpoint: Endpoint) -> bool:
    """Whether a call may name a domain; the token may have no access to that domain."""
    models = (model for model in (endpoint.query, endpoint.body) if model is not None)
    return any("domain" in model.model_fields for model in models)


_TOO_MANY = "too many requests with this token, or too many wrong tokens from this address"
_TOO_MANY_DOWNLOADS = f"{_TOO_MANY}; or too many downloads of this token are under way"


def _problems(endpoint: Endpoint) -> list[tuple[str, str]]:
    if not endpoint.guarded and "{" not in endpoint.mark.path:
        return [("401", "the token is not valid"), ("429", _TOO_MANY)] if endpoint.takes_token else []
    found = [("429", _TOO_MANY_DOWNLOADS if endpoint.mark.streams else _TOO_MANY)]
    if endpoint.guarded:
        found += [("401", "no valid token"), ("403", f"the token lacks the scope {endpoint.mark.scope}")]
    if "{" in endpoint.mark.path or _names_domain(endpoint):
        found.append(("404", "there is no such thing"))
    if endpoint.body is not None:
        found += [("400", "the body is not JSON"), ("408", "the body did not arrive in time")]
        found += [("413", "the body is larger than 1 MiB"), ("415", "the body is not JSON, or is compressed")]
    if endpoint.mark.uploads:
        found += [("400", "the body did not arrive whole"), ("408", "the body did not arrive in time")]
        found += [("413", "the body is larger than 10 MiB"), ("415", "the body is not sent as audio, or is compressed")]
    if endpoint.mark.method == "POST":
        found.append(("409", "it exists already, or the first request with this Idempotency-Key is running or lost its answer"))
    if _has_ranges(endpoint):
        found += [("412", "it is not the version that If-Match names"), ("416", "the range lies outside of it")]
    if is_conditional(endpoint.handler):
        found.append(("412", "it was changed since it was read, as If-Match says"))
    found.append(("422", "some fields or parameters are wrong"))
    return [*sorted(found), ("503", "the database does not answer")]
