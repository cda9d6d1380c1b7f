"""Which address behind a proxy is the client's."""

from ipaddress import ip_network

import pytest

from beaconfire_kit.client_addresses import (
    MAX_PROXIES,
    Client,
    client_address,
    client_network,
    forwarded,
    x_forwarded_for,
)

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.1.1.1"], "10.1.1.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("", ["198.51.100.1"], "unknown"),
        (None, ["198.51.100.1"], "unknown"),
    ],
)
def test_clients_address_is_the_last_one_that_no_trusted_proxy_has(
    peer: str | None, headers: list[str], client: str
) -> None:
    assert client_address(peer, x_forwarded_for(headers), PROXIES).address == client


def test_forwarded_headers_are_ignored_without_configured_proxies() -> None:
    assert client_address("127.0.0.1", ["198.51.100.1"], ()) == Client("127.0.0.1")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::8", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_ipv6_64_counts_as_one_client_network(address: str, counted: str) -> None:
    """One IPv6 subscriber has 2^64 addresses."""
    assert client_network(address) == counted


FORMS = {
    "198.51.100.1": "198.51.100.1",
    "198.51.100.1:51234": "198.51.100.1",
    "198.51.100.1:_port": "198.51.100.1",
    '"198.51.100.1"': "198.51.100.1",
    '"198.51.100.1:443"': "198.51.100.1",
    "2001:db8::7": "2001:db8::7",
    "2001:DB8:0:0:0:0:0:7": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "[2001:db8::7]:443": "2001:db8::7",
    '"[2001:db8::7]:443"': "2001:db8::7",
    '"[2001:db8::7]"': "2001:db8::7",
    "2001:db8:85a3:8d3:1319:8a2e:370:7348:443": "2001:db8:85a3:8d3:1319:8a2e:370:7348",
    "::ffff:198.51.100.1": "198.51.100.1",
    "[::ffff:198.51.100.1]:80": "198.51.100.1",
    "fe80::7%eth0": "fe80::7",
    "::1": "::1",
    "  198.51.100.1\t": "198.51.100.1",
}
UNREADABLE = {
    "unknown": "unknown",
    "UNKNOWN": "unknown",
    "unknown:443": "unknown",
    '"unknown"': "unknown",
    "_hidden": "hidden",
    '"_SEVKISEK:80"': "hidden",
    "nonsense": "malformed",
    "198.51.100.1.": "malformed",
    "198.51.100.1:": "malformed",
    "198.51.100.1:http": "malformed",
    "198.51.100.1:80:80": "malformed",
    "198.51.100.010": "malformed",
    "[198.51.100.1]": "malformed",
    "[2001:db8::7": "malformed",
    "[2001:db8::7]443": "malformed",
    "[2001:db8::7]:": "malformed",
    "2001:db8::7]": "malformed",
    '"198.51.100.1': "malformed",
    "localhost:80": "malformed",
    "1" * 8_000: "malformed",
}


@pytest.mark.parametrize(("node", "client"), FORMS.items())
def test_x_forwarded_for_is_read_with_and_without_ports_brackets_and_quotes(node: str, client: str) -> None:
    """A client's own entries before it have no effect."""
    for headers in ([node], [f"6.6.6.6, {node}"], ["6.6.6.6", node], [f"{node}, 10.0.0.2"], [f", {node} ,,"]):
        assert client_address("10.0.0.1", x_forwarded_for(headers), PROXIES) == Client(client)


@pytest.mark.parametrize(("node", "why"), UNREADABLE.items())
def test_client_of_an_unreadable_entry_counts_as_the_proxy_with_a_reason(node: str, why: str) -> None:
    found = client_address("10.0.0.1", x_forwarded_for([f"6.6.6.6, {node}, 10.0.0.2"]), PROXIES)

    assert (found.address, found.unreadable, found.entry) == ("10.0.0.2", why, node)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (["For=198.51.100.1;proto=https;by=10.0.0.9"], "198.51.100.1"),
        (["proto=https; for=198.51.100.1"], "198.51.100.1"),
        (['for="198.51.100.1:4711"'], "198.51.100.1"),
        (["for=198.51.100.1:4711"], "198.51.100.1"),
        (['for="[2001:db8::7]:4711"'], "2001:db8::7"),
        (['FOR="[2001:db8::7]"'], "2001:db8::7"),
        (["for=[2001:db8::7]"], "2001:db8::7"),
        (['for="2001:db8::7"'], "2001:db8::7"),
        (["for=6.6.6.6, for=198.51.100.1"], "198.51.100.1"),
        (["for=6.6.6.6", "for=198.51.100.1"], "198.51.100.1"),
        (["for=198.51.100.1, for=10.0.0.2"], "198.51.100.1"),
        (["for=198.51.100.1, , "], "198.51.100.1"),
        (["for=198.51.100.1;"], "198.51.100.1"),
        ([";for=198.51.100.1;;proto=https"], "198.51.100.1"),
        ([], "10.0.0.1"),
    ],
)
def test_forwarded_is_read_from_the_last_element_in_any_order_and_case(headers: list[str], client: str) -> None:
    """RFC 7239."""
    assert client_address("10.0.0.1", forwarded(headers), PROXIES) == Client(client)


@pytest.mark.parametrize(
    ("element", "why"),
    [
        ("for=unknown", "unknown"),
        ("proto=https", "unknown"),
        ("for=_hidden", "hidden"),
        ('for="_gazonk"', "hidden"),
        ("198.51.100.1", "malformed"),
        ("for=", "malformed"),
        ("for=198.51.100.1;for=6.6.6.6", "malformed"),
        ('for="198.51.100.1', "malformed"),
        ('for="198.51.100\\.1"', "malformed"),
        ('for=198.51.100.1;host="x;for=6.6.6.6"', "malformed"),
        ('for=198.51.100.1;host="x,for=6.6.6.6"', "malformed"),
        ('for=198.51.100.1;host="x,for=6.6.6.6;a="', "malformed"),
        ('for=198.51.100.1;host="x,for=6.6.6.6;a=\\"y"', "malformed"),
        ('host="x,for=6.6.6.6";for=198.51.100.1', "malformed"),
    ],
)
def test_quoted_value_of_a_client_is_never_read_as_an_element_of_forwarded(element: str, why: str) -> None:
    found = client_address("10.0.0.1", forwarded([f"for=6.6.6.6, {element}"]), PROXIES)

    assert (found.address, found.unreadable) == ("10.0.0.1", why)


@pytest.mark.parametrize("start", ["for=6.6.6.6", 'for="', 'for="6.6.6.6', 'a="b\\', "for=6.6.6.6;", '"', "=;=", "\\"])
def test_element_that_a_proxy_appends_is_read_alone_whatever_the_client_sent(start: str) -> None:
    """Open quotes included."""
    for headers in ([f"{start}, for=198.51.100.1"], [start, "for=198.51.100.1"]):
        assert client_address("10.0.0.1", forwarded(headers), PROXIES) == Client("198.51.100.1")


def test_long_forwarded_header_is_read_only_as_far_as_there_may_be_proxies() -> None:
    header = ",".join(["10.0.0.1"] * 2_000)

    assert len(x_forwarded_for([header, header])) == MAX_PROXIES
    assert len(forwarded([header, header])) == MAX_PROXIES
