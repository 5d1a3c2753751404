"""Addresses of clients: one spelling for each, and which of them count as one client.

IPv4 is written as such also if it came over an IPv6 socket, as ``::ffff:192.0.2.1``.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_ONE_CLIENT = 64  # bits of an IPv6 prefix: one customer has at least so much, so each of its addresses would be a new client


def parsed(text: str) -> Address | None:
    """The address in a text, without the interface of a link-local one (``%eth0``); None if there is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def plain(text: str) -> str:
    """An address in its usual form; "" for what is none, such as a local socket's."""
    address = parsed(text)
    return "" if address is None else str(address)


@lru_cache(maxsize=4096)
def client_of(text: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address. A text that is no address stays as it is."""
    address = parsed(text)
    if address is None:
        return text
    return str(address) if isinstance(address, IPv4Address) else str(IPv6Network((address, _ONE_CLIENT), strict=False))


def lies_in(text: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    address = parsed(text) if networks else None
    return address is not None and any(address in network for network in networks)
