"""The address of the client that a request came from. Nothing else reads it from a request."""

from aiohttp import web


def client_address(request: web.Request) -> str:
    """The peer's address; "" for a local socket."""
    return request.remote or ""
