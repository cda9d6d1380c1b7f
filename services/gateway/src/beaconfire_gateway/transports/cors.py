"""What pages of other origins may do with each transport over HTTP (CORS): one table.

aiohttp's answers get these headers from `beaconfire_kit.web`. An answer that a transport writes itself takes them from
`web.cross_origin_headers`. Browsers do not ask before they open a WebSocket, so `/ws` is not here.
"""

from collections.abc import Mapping

from beaconfire_kit.web import CORRELATION_HEADER, CURSOR_HEADER, CrossOrigin

_READABLE = f"{CORRELATION_HEADER}, {CURSOR_HEADER}, Retry-After"

_WITH_COOKIES = CrossOrigin(
    methods="GET, POST",
    sendable=f"Authorization, Cache-Control, Content-Type, Last-Event-ID, {CORRELATION_HEADER}",
    readable=_READABLE,
    with_cookies=True,
)
"""An `EventSource` sends the cookie of its ticket, and `socket.io-client` sends a load balancer's cookie."""

RULES: Mapping[str, CrossOrigin] = {"/sse": _WITH_COOKIES, "/poll": _WITH_COOKIES, "/socket.io": _WITH_COOKIES}
"""By the beginning of the path."""
