"""beaconfire_kit.addresses: who is behind a proxy, and who only says so."""

from ipaddress import ip_network

import pytest

from beaconfire_kit.addresses import MAX_PROXIES, Client, client_address, forwarded, household, x_forwarded_for

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
def test_client(peer: str | None, headers: list[str], client: str) -> None:
    """The last address that no trusted proxy has is the client's, whatever it wrote before that itself."""
    assert client_address(peer, x_forwarded_for(headers), PROXIES).address == client


def test_nobody_is_trusted_by_default() -> None:
    """Without configured proxies the header means nothing."""
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
def test_household(address: str, counted: str) -> None:
    """One IPv6 subscriber has 2^64 addresses, and counts as one."""
    assert household(address) == counted


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
def test_forms_of_x_forwarded_for(node: str, client: str) -> None:
    """An entry is read with and without a port, brackets and quotes; what a client wrote before it changes nothing."""
    for headers in ([node], [f"6.6.6.6, {node}"], ["6.6.6.6", node], [f"{node}, 10.0.0.2"], [f", {node} ,,"]):
        assert client_address("10.0.0.1", x_forwarded_for(headers), PROXIES) == Client(client)


@pytest.mark.parametrize(("node", "why"), UNREADABLE.items())
def test_what_cannot_be_read_counts_as_the_proxy(node: str, why: str) -> None:
    """An entry without an address: the client counts as the proxy that wrote it, and why is told."""
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
def test_forms_of_forwarded(headers: list[str], client: str) -> None:
    """RFC 7239: `for` is read from the last element backwards, in any order and letter case of its pairs."""
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
def test_nothing_is_smuggled_into_forwarded(element: str, why: str) -> None:
    """An element that a proxy wrote is never read as what a client put into a quoted value of it."""
    found = client_address("10.0.0.1", forwarded([f"for=6.6.6.6, {element}"]), PROXIES)

    assert (found.address, found.unreadable) == ("10.0.0.1", why)


@pytest.mark.parametrize("start", ["for=6.6.6.6", 'for="', 'for="6.6.6.6', 'a="b\\', "for=6.6.6.6;", '"', "=;=", "\\"])
def test_what_a_client_wrote_stays_in_its_own_part(start: str) -> None:
    """Whatever a client sends, open quotes among it, the element that the proxy appends is read by itself."""
    for headers in ([f"{start}, for=198.51.100.1"], [start, "for=198.51.100.1"]):
        assert client_address("10.0.0.1", forwarded(headers), PROXIES) == Client("198.51.100.1")


def test_a_long_header_is_not_read_whole() -> None:
    """Of any number of entries, only as many are looked at as there may be proxies."""
    header = ",".join(["10.0.0.1"] * 2_000)

    assert len(x_forwarded_for([header, header])) == MAX_PROXIES
    assert len(forwarded([header, header])) == MAX_PROXIES
