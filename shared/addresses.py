"""Whose address a request came from: the peer's, or what a proxy of ours says it was."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address, from the connection's peer and the `X-Forwarded-For` headers, in order.

    They are believed only as far as trusted proxies wrote them: read from the last entry backwards, the first that is
    no trusted proxy is the client. Anybody may have written what stands before it. What is no address ends the search.
    """
    client = _address(peer or "")
    if client is None:
        return peer or "unknown"
    entries = [entry for header in forwarded for entry in header.split(",")]
    for entry in reversed(entries):
        if not _is_in(client, trusted):
            break
        before = _address(entry.strip())
        if before is None:
            break
        client = before
    return str(client)


def household(address: str) -> str:
    """What limits count by: an IPv4 address, or the /64 that one IPv6 subscriber has to itself."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
