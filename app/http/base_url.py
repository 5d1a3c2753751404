"""The address under which a client reaches this service, for the links in its answers."""

import re

from aiohttp import web

from app.http.client import CLIENT

# A name, an IPv4 address or a bracketed IPv6 address, with a port or not: nothing that could end or change a URL.
_HOST = re.compile(r"(?:[0-9A-Za-z](?:[0-9A-Za-z._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def base_url(request: web.Request, public_url: str) -> str:
    """``public_url`` if it is set, else the address in the client's request with the client's scheme; without a final slash."""
    if public_url:
        return public_url
    host = request.host
    if not _HOST.fullmatch(host):
        host = _own_address(request)
    return f"{request[CLIENT].scheme}://{host}"


def _own_address(request: web.Request) -> str:
    name = request.get_extra_info("sockname")
    if not isinstance(name, tuple):
        return "localhost"
    host, port = str(name[0]), name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
