"""Who sent a request: the address and the scheme at the client's end, as far as proxies that are trusted say so.

Only ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are read. ``Forwarded`` (RFC 7239) is not: a proxy that writes one of the two
passes the other one on as the client wrote it, so a service that reads both believes the client.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from app.networks import Address, Network, parsed

_LONGEST_HOP = 64  # characters, an IPv6 address with brackets and port has fewer
_HOP = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?|(?P<bare>[0-9A-Fa-f:.]+)")


@dataclass(frozen=True, slots=True)
class Client:
    """The client's end of a request. ``address`` is "" if the connection is gone already."""

    address: str
    scheme: str


CLIENT: web.RequestKey[Client] = web.RequestKey("client", Client)


class Clients:
    """Finds the client of each request. ``trusted`` are the networks of the proxies whose headers are believed."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._known = lru_cache(maxsize=4096)(self._look)

    def of(self, request: web.Request) -> Client:
        """The client of a request. Headers are read only if the peer of the connection is trusted."""
        peer = (request.remote or "").partition("%")[0]  # %: the interface of a link-local address
        address, trusted = self._known(peer)
        if not trusted:
            return Client(address or peer, request.scheme)
        return Client(self._behind(address or peer, request), _forwarded_scheme(request))

    def _behind(self, proxy: str, request: web.Request) -> str:
        """The rightmost hop that is not trusted. Anybody may have written what is to the left of it."""
        nearest = proxy
        for hop in _hops(request):
            address, trusted = self._known(hop) if len(hop) <= _LONGEST_HOP else (None, False)
            if address is None:
                return nearest  # whoever wrote this is the last one who is known
            nearest = address
            if not trusted:
                return address
        return nearest

    def _look(self, text: str) -> tuple[str | None, bool]:
        """The address that a text names, in one spelling, and whether it is a trusted proxy's."""
        address = _parsed(text)
        if address is None:
            return None, False
        return str(address), any(address in network for network in self._trusted)


def _hops(request: web.Request) -> Iterator[str]:
    for line in reversed(request.headers.getall("X-Forwarded-For", [])):
        for hop in reversed(line.split(",")):
            yield hop.strip()


def _parsed(text: str) -> Address | None:
    match = _HOP.fullmatch(text)
    return None if match is None else parsed(match["v6"] or match["v4"] or match["bare"])


def _forwarded_scheme(request: web.Request) -> str:
    given = ",".join(request.headers.getall("X-Forwarded-Proto", []))
    scheme = given.rpartition(",")[2].strip().lower()  # the nearest proxy's, as it is trusted
    return scheme if scheme in ("http", "https") else request.scheme
