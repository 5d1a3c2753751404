"""Adapts pydantic's schema of a model for client generators: no defaults in requests, null if that is forgiven."""

from typing import Annotated, Any

from pydantic import Field

Schema = dict[str, Any]

UuidText = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
"""A UUID in an answer, where it is text already."""


def request_schema(schema: Schema) -> Schema:
    """The schema of a request's body. What may be left out may be null, and means the same; nothing is sent in its place."""
    required = schema.get("required", [])
    properties = {name: _body_field(field, name in required) for name, field in schema.get("properties", {}).items()}
    return {**_tidy(schema), "properties": properties}


def parameter_schema(field: Schema) -> Schema:
    """The schema of a query's parameter, which is never null: it is left out instead."""
    choices = [choice for choice in field.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        field = {**{name: value for name, value in field.items() if name != "anyOf"}, **choices[0]}
    return _without(field, "default")


def _body_field(field: Schema, required: bool) -> Schema:
    field = _without(field, "default")
    if not required and isinstance(field.get("type"), str):
        field["type"] = [field["type"], "null"]
    return field


def _tidy(schema: Schema) -> Schema:
    """OpenAPI 3.1 has ``examples``; ``example`` is deprecated."""
    example = schema.get("example")
    return _without(schema, "example") | ({"examples": [example]} if example is not None else {})


def _without(schema: Schema, name: str) -> Schema:
    return {key: value for key, value in schema.items() if key != name}
