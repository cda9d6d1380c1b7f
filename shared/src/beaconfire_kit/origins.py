"""Normalise browser origins to the form of the `Origin` header (RFC 6454 §6.2).

A listed origin is compared with that header as a whole. One that is written in another way would never match, so it is
brought into the browser's form here, or refused.
"""

import ipaddress
import re

from yarl import URL

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?")
_HINT = "write it as https://app.example.com or http://localhost:3000"


class InvalidOrigin(ValueError):
    """The text is not an origin. The message contains the reason and what to write instead."""


def normal_origin(text: str) -> str:
    """Return the origin as browsers send it: lower case, punycode, without default port and final slash.

    Raises InvalidOrigin for a wildcard, `null`, a missing scheme, a path, a query, a fragment, or a user's name.
    """
    if "*" in text:
        raise InvalidOrigin(f"{text!r} is a pattern: wildcards are not supported, list each origin separately")
    try:
        url = URL(text)
        origin = str(url.origin())
    except (ValueError, TypeError):  # null, a name without a scheme, a port beyond 65535
        raise InvalidOrigin(f"{text!r} is not an origin: {_HINT}") from None
    if url.raw_path not in ("", "/") or url.raw_query_string or url.raw_fragment or url.raw_user is not None:
        raise InvalidOrigin(f"{text!r} has more than a scheme, a host and a port: leave it at {origin}")
    host = url.raw_host or ""
    if url.scheme in ("ws", "wss"):
        raise InvalidOrigin(f"{text!r} is a socket's address: list the origin of the page that opens it, https://…")
    if url.port == 0 or not _is_host(host):
        raise InvalidOrigin(f"{text!r} names no host that a browser could reach: {_HINT}")
    return origin.replace(host, str(ipaddress.IPv6Address(host))) if ":" in host else origin


def _is_host(host: str) -> bool:
    """Return whether it is a host name, or an address in the form that browsers write (`127.1` is not)."""
    if ":" in host or host.rstrip(".").rpartition(".")[2].isdigit():
        try:
            return "%" not in host and bool(ipaddress.ip_address(host))
        except ValueError:
            return False
    return bool(_HOST.fullmatch(host))
