"""Addresses of clients: how they are written, and which of them are one client."""

from ipaddress import ip_network

import pytest

from app.access.limits import FailureLimit
from app.errors import TooManyRequests
from app.networks import client_of, lies_in, plain


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::ffff:c000:207", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::", "2001:db8:1:2::/64"), ("2001:DB8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"), ("fe80::1%eth0", "fe80::/64"), ("", ""), ("odd", "odd"), ("1.2.3.4/8", "1.2.3.4/8"), ("::\0", "::\0"),
    ],
)  # fmt: skip
def test_an_ipv6_address_counts_as_its_64_and_ipv4_as_itself(address: str, client: str) -> None:
    assert client_of(address) == client


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.7", "192.0.2.7"), ("FE80::1%eth0", "fe80::1"), ("", ""), ("odd", "")],
)
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    assert plain(text) == address


def test_a_proxy_is_found_in_its_network() -> None:
    networks = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]

    found = [lies_in(address, networks) for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "11.1.1.1", "")]

    assert found == [True, True, True, False, False]
    assert not lies_in("10.1.2.3", ())


def test_clients_of_ipv4_on_an_ipv6_socket_are_not_one_caller_and_keep_their_failures_on_either_socket() -> None:
    failures = FailureLimit(1)
    failures.count("::ffff:192.0.2.1")

    failures.count("::ffff:192.0.2.2")

    with pytest.raises(TooManyRequests):
        failures.count("192.0.2.1")
