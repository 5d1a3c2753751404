"""Bodies and queries into models, every wrong field at once, in words of our own and never with the value."""

from collections.abc import Mapping
from functools import cache
from typing import TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.errors import FieldError, Invalid
from app.http.problems import BadRequest, UnsupportedMediaType

M = TypeVar("M", bound=BaseModel)

_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}


async def read_body(request: web.Request, model: type[M]) -> M:
    """The JSON object of a request. Raises ``UnsupportedMediaType``, ``BadRequest`` and ``Invalid``; aiohttp raises 413."""
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("send Content-Type: application/json, in UTF-8")
    raw = await request.read()
    try:
        # Also refuses what is not UTF-8, NaN and halves of surrogate pairs.
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise _invalid(error) from None


def read_query(request: web.Request, model: type[M]) -> M:
    """The query's parameters that the model knows; others are left alone. Raises ``Invalid``."""
    known = _names(model)
    values: dict[str, str] = {}
    twice: list[FieldError] = []
    for name, value in request.query.items():
        if name in known:
            if name in values:
                twice.append(FieldError(name, "must be given once"))
            values[name] = value
    if twice:
        raise Invalid(twice)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _invalid(error) from None


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


def _invalid(error: ValidationError) -> Invalid:
    details = error.errors(include_url=False, include_input=False)
    return Invalid([FieldError(_field(item), _words(item)) for item in details])


def _field(item: ErrorDetails) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "body"
    return name[:200].encode("utf-8", "replace").decode()


def _words(item: ErrorDetails) -> str:
    context: Mapping[str, object] = item.get("ctx", {})
    if item["type"] in _WORDS:
        return _WORDS[item["type"]]
    if item["type"] == "value_error":
        return str(context.get("error", "is wrong"))
    if item["type"] == "greater_than_equal":
        return f"must be at least {context['ge']}"
    if item["type"] == "less_than_equal":
        return f"must be at most {context['le']}"
    if item["type"] == "string_too_long":
        return f"must not be longer than {context['max_length']} characters"
    return item["msg"][:1].lower() + item["msg"][1:]
