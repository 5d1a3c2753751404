"""Parses bodies and queries into models. Errors name the field, have our own texts, and never quote the value.

Whatever a client sends, the loop is held for milliseconds: a large body waits for its turn, and what no model wants is counted
before pydantic sees it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.errors import MOST_ERRORS, FieldError, Invalid
from app.http.problems import BadRequest, UnsupportedMediaType

M = TypeVar("M", bound=BaseModel)

_LARGE = 16 * 1024  # bytes; a valid body is smaller, and 1 MiB takes up to 15 ms to parse
_PAUSE = 4.0  # a pause of so many times the parsing time: other requests get four fifths of the time
# Lists and objects cost the most: a MiB of "[[[…]]]," takes 400 ms, and no field needs so many.
_MANY_CONTAINERS, _MOST_CONTAINERS = 100, 10_000
_MOST_ITEMS = 100_000  # a body of 90,000 unknown keys is still answered with their names
_CACHE_BUSTER = "_"  # which browsers' libraries add to a query
_UNKNOWN = "is not a field of this request"
_WORDS = {
    "missing": "is required",
    "extra_forbidden": _UNKNOWN,
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


class BodyReader:
    """Reads the JSON bodies of an application. Large ones are read one after the other, with a pause after each."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def read(self, request: web.Request, model: type[M]) -> M:
        """The JSON object of a request. Raises ``UnsupportedMediaType``, ``BadRequest`` and ``Invalid``; aiohttp raises 413."""
        if getattr(model, "OPTIONAL_BODY", False) and not request.can_read_body:
            return model()
        _check_type(request)
        try:
            raw = await request.read()
        except (RequestPayloadError, ConnectionError):
            raise BadRequest("the body did not arrive whole") from None
        containers = raw.count(b"[") + raw.count(b"{")
        if containers > _MOST_CONTAINERS or raw.count(b",") > _MOST_ITEMS:
            raise BadRequest("the body holds too many lists, objects or items")
        if len(raw) <= _LARGE and containers <= _MANY_CONTAINERS:
            return _validated(_document(raw), raw, model)
        async with self._turn:
            began = time.thread_time()
            try:
                return _validated(_document(raw), raw, model)
            finally:
                await asyncio.sleep(_PAUSE * (time.thread_time() - began))


class NoQuery(BaseModel):
    """The query of a route without parameters."""


def read_query(request: web.Request, model: type[M]) -> M:
    """The query's parameters; an empty value is as if it were left out. Raises ``Invalid``, also for unknown ones but ``_``.

    A parameter in the model's ``REPEATED`` may be given several times, and its values come joined by commas.
    """
    known = _names(model)
    repeated: frozenset[str] = getattr(model, "REPEATED", frozenset())
    values: dict[str, str] = {}
    wrong: list[FieldError] = []
    for name, value in request.query.items():
        if name in values and name in repeated:
            values[name] = f"{values[name]},{value}"
        elif name in values:
            wrong.append(FieldError(name, "must be given once"))
        elif name in known:
            if value:
                values[name] = value
        elif name != _CACHE_BUSTER:
            wrong.append(FieldError(_field((name,)), "is not a parameter of this request"))
    try:
        result = model.model_validate(values)
    except ValidationError as error:
        raise Invalid([*_invalid(error).errors, *wrong]) from None
    if wrong:
        raise Invalid(wrong)
    return result


def check_encoding(request: web.Request) -> None:
    """Raises ``UnsupportedMediaType`` if a body is compressed: a small one may inflate to gigabytes. Asked first of all."""
    if any(value.strip().lower() not in {"identity", ""} for value in request.headers.getall("Content-Encoding", ())):
        raise UnsupportedMediaType("send the body as it is, without a Content-Encoding")


def _check_type(request: web.Request) -> None:
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("send Content-Type: application/json, in UTF-8")


def _document(raw: bytes) -> dict[str, Any]:
    try:
        # Also refuses what is not UTF-8, NaN and halves of surrogate pairs.
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def _validated(document: dict[str, Any], raw: bytes, model: type[M]) -> M:
    """The model of a document; ``raw`` is the same, because pydantic is strict in its own way with JSON."""
    known, left_out = _names(model), _ignored(model)
    unknown = [name for name in document if name not in known] if model.model_config.get("extra") == "forbid" else []
    if not getattr(model, "NULL_IS_A_VALUE", False):
        left_out |= {name for name in _optional(model) if name in document and document[name] is None}
    if unknown or not left_out.isdisjoint(document):
        wanted = {name: document[name] for name in known - left_out if name in document}
        try:
            raw = orjson.dumps(wanted)
        except orjson.JSONEncodeError:  # orjson reads 1024 levels, but writes only 254
            raise BadRequest("the body is nested too deeply") from None
    try:
        result = model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise _invalid(error, unknown) from None
    if unknown:
        raise _unknown_fields((), unknown)
    return result


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


@cache
def _optional(model: type[BaseModel]) -> frozenset[str]:
    """The fields that may be left out, and for which null means the same."""
    return frozenset(field.alias or name for name, field in model.model_fields.items() if not field.is_required())


def _ignored(model: type[BaseModel]) -> frozenset[str]:
    """The fields that a client may send back and nobody reads, as the model's ``IGNORED`` says."""
    return getattr(model, "IGNORED", frozenset())


def _invalid(error: ValidationError, unknown: Sequence[str] = ()) -> Invalid:
    details = error.errors(include_url=False, include_input=False)
    return _unknown_fields([FieldError(_field(item["loc"]), _words(item)) for item in details], unknown)


def _unknown_fields(errors: Sequence[FieldError], unknown: Sequence[str]) -> Invalid:
    """Only the unknown names that are reported are looked at."""
    told = unknown[: max(0, MOST_ERRORS - len(errors))]
    return Invalid([*errors, *(FieldError(_field((name,)), _UNKNOWN) for name in told)], more=len(unknown) - len(told))


def _field(place: Sequence[int | str]) -> str:
    name = ".".join(str(part) for part in place) or "body"
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
