"""Find the address of a request's client: that of the peer, or the one that a trusted proxy names."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Unreadable = Literal["unknown", "hidden", "malformed"]
"""Why a proxy's entry names no address: the proxy does not know it, hides it (`_word`), or wrote something else."""

MAX_PROXIES = 20
"""How many of the last entries are read. No deployment has more proxies in a row."""
_PORT = re.compile(r"[0-9]{1,5}|_[A-Za-z0-9._-]+")  # RFC 7239 §6: a port may be hidden, too
_PAIR = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z:\[\]/]+|\"[^\"\\]*\")")


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a request. `unreadable` is the reason why a trusted proxy's `entry` could not be used."""

    address: str
    unreadable: Unreadable | None = None
    entry: str = ""


def client_address(peer: str | None, nodes: Sequence[str], trusted: Sequence[Network]) -> Client:
    """Return the client, from the connection's peer and the proxies' entries (`x_forwarded_for` or `forwarded`).

    Only entries that trusted proxies wrote count. Read from the last one backwards, the first address that is not a
    trusted proxy's is the client. Any client can forge the entries before it. An entry without an address ends the
    search, and the client counts as the proxy that wrote it.
    """
    client = _address(peer or "")
    if client is None:
        return Client(peer or "unknown")
    for node in reversed(nodes):
        if not any(client in network for network in trusted):
            break
        before = _read_node(node)
        if isinstance(before, str):
            return Client(str(client), before, node)
        client = before
    return Client(str(client))


def x_forwarded_for(headers: Iterable[str]) -> list[str]:
    """Return the last entries of `X-Forwarded-For`, in order. Each is an address with or without a port."""
    return _last_elements(headers)


def forwarded(headers: Iterable[str]) -> list[str]:
    """Return `for` of the last entries of `Forwarded` (RFC 7239), in order. It is "unknown" if an entry has none.

    Elements are cut at every comma, quoted or not. So a client's own part can never become part of an element that a
    proxy appended. An element with a comma or semicolon in quotes is malformed.
    """
    return [_for(element) for element in _last_elements(headers)]


FORMATS: dict[str, Callable[[Iterable[str]], list[str]]] = {
    "X-Forwarded-For": x_forwarded_for,
    "Forwarded": forwarded,
}
"""The headers in which proxies name the client, and the function that reads each."""


def client_network(address: str) -> str:
    """Return the network that limits count by: an IPv4 address, or the /64 of one IPv6 subscriber."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def _last_elements(headers: Iterable[str]) -> list[str]:
    elements = ",".join(headers).rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]
    return [element.strip() for element in elements if element.strip()]


def _for(element: str) -> str:
    pairs = [pair.strip() for pair in element.split(";") if pair.strip()]  # RFC 7239 §4: a pair may be empty
    named = [value for name, _, value in (pair.partition("=") for pair in pairs) if name.lower() == "for"]
    if len(named) > 1 or not all(_PAIR.fullmatch(pair) for pair in pairs):
        return f"malformed: {element}"  # so that it is not read as an address
    return named[0] if named else "unknown"


def _read_node(text: str) -> Address | Unreadable:
    """Read an address with or without port, quotes, and (for IPv6) brackets."""
    node = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if node.lower().partition(":")[0] == "unknown":
        return "unknown"
    if node.startswith("_"):
        return "hidden"
    return _address(node) or _address(_without_port(node)) or "malformed"


def _without_port(node: str) -> str:
    """Remove the port and brackets of `192.0.2.1:80`, `[2001:db8::1]:80`, or eight groups of IPv6 with a ninth."""
    if node.startswith("["):
        host, bracket, port = node[1:].partition("]")
        is_right = bool(bracket) and ":" in host and (not port or (port[0] == ":" and _PORT.fullmatch(port[1:])))
    else:
        host, _, port = node.rpartition(":")
        is_right = host.count(":") in (0, 7) and "::" not in host and _PORT.fullmatch(port) is not None
    return host if is_right else ""


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))  # without the zone, which only this machine knows
    return address
