"""Routes as methods of a class. A handler's signature says what it takes and returns; OpenAPI reads it too."""

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel

from app.access.grant import Grant
from app.access.scopes import Scope
from app.http.client import CLIENT

T = TypeVar("T")
_Method = Callable[..., Awaitable[Any]]
_MARK = "__voicemail_route__"
ADMIT = "admit"  # the method of a class of routes that raises NotFound if what a path names does not exist for the caller


@dataclass(frozen=True, slots=True)
class Request:
    """The argument of every handler: the request, the caller's grant, and the variable parts of the path."""

    raw: web.Request
    grant: Grant

    @property
    def path(self) -> Mapping[str, str]:
        """The variable parts of the path, decoded."""
        return self.raw.match_info

    @property
    def address(self) -> str:
        """The client's address; "" if it is not known."""
        return self.raw[CLIENT].address


Admit = Callable[[Request], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Response(Generic[T]):
    """An answer with headers or a status of its own."""

    body: T
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator notes on a handler."""

    method: str
    path: str
    summary: str
    status: int
    description: str
    streams: tuple[str, ...]
    scope: Scope | None
    optional_scope: Scope | None = None
    uploads: tuple[str, ...] = ()  # the media types of a body that the handler reads itself


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route, bound to its object and with its signature read."""

    mark: Mark
    handler: _Method
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    result: Any
    tag: str
    admit: Admit | None

    @property
    def guarded(self) -> bool:
        """Whether a bearer token is needed; a route without a scope is public."""
        return self.mark.scope is not None

    @property
    def takes_token(self) -> bool:
        """Whether a bearer token is looked at, if one comes."""
        return self.guarded or self.mark.optional_scope is not None


def _decorator(mark: Mark) -> Callable[[_Method], _Method]:
    def decorate(handler: _Method) -> _Method:
        setattr(handler, _MARK, mark)
        return handler

    return decorate


# Every route names its scope; ``scope=None`` means that no token is needed.


def get(
    path: str,
    *,
    scope: Scope | None,
    optional_scope: Scope | None = None,
    summary: str,
    status: int = 200,
    description: str = "",
    streams: tuple[str, ...] = (),
) -> Callable[[_Method], _Method]:
    """A GET route, and HEAD with it. ``streams``: the content types that a handler has which streams its answer itself.

    ``optional_scope`` is what a token may add to a public route's answer; the handler looks for it in the grant.
    """
    return _decorator(Mark("GET", path, summary, status, description, streams, scope, optional_scope))


def post(
    path: str,
    *,
    scope: Scope | None,
    summary: str,
    status: int = 200,
    description: str = "",
    streams: tuple[str, ...] = (),
    uploads: tuple[str, ...] = (),
) -> Callable[[_Method], _Method]:
    """A POST route; ``streams`` as for GET. ``uploads``: the media types of a body that is no JSON and that the handler reads."""
    return _decorator(Mark("POST", path, summary, status, description, streams, scope, uploads=uploads))


def put(
    path: str,
    *,
    scope: Scope | None,
    summary: str,
    status: int = 200,
    description: str = "",
    uploads: tuple[str, ...] = (),
) -> Callable[[_Method], _Method]:
    """A PUT route. ``uploads``: the media types of a body that is no JSON, which the handler reads itself."""
    return _decorator(Mark("PUT", path, summary, status, description, (), scope, uploads=uploads))


def patch(
    path: str, *, scope: Scope | None, summary: str, status: int = 200, description: str = ""
) -> Callable[[_Method], _Method]:
    """A PATCH route."""
    return _decorator(Mark("PATCH", path, summary, status, description, (), scope))


def delete(
    path: str, *, scope: Scope | None, summary: str, status: int = 200, description: str = ""
) -> Callable[[_Method], _Method]:
    """A DELETE route."""
    return _decorator(Mark("DELETE", path, summary, status, description, (), scope))


def endpoints(routes: object) -> list[Endpoint]:
    """The routes of an object, in the order in which its class defines them."""
    found = []
    for name in vars(type(routes)):
        mark = getattr(getattr(type(routes), name), _MARK, None)
        if isinstance(mark, Mark):
            tag = type(routes).__name__.removesuffix("Routes").lower()
            found.append(_endpoint(mark, getattr(routes, name), tag, getattr(routes, ADMIT, None)))
    return found


def _endpoint(mark: Mark, handler: _Method, tag: str, admit: Admit | None) -> Endpoint:
    hints = typing.get_type_hints(handler)
    names = list(inspect.signature(handler).parameters)
    unknown = set(names) - {"request", "query", "body"}
    if names[:1] != ["request"] or unknown:
        raise TypeError(f"{handler} must take request, and query and body if it needs them")
    return Endpoint(mark, handler, hints.get("query"), hints.get("body"), _result(hints.get("return")), tag, admit)


def _result(annotation: Any) -> Any:
    """What is inside ``Response[…]``, or the annotation itself."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Response else annotation
