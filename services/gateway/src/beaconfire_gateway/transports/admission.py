"""Check a client before any transport accepts it, and find its address."""

import time

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.limits import LIMITED, LimitReached
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.access import TokenRefused
from beaconfire_kit.client_addresses import client_network
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.tokens import Claims
from beaconfire_kit.web import bearer_token

log = logs.get(__name__)

OPENED = metrics.Counter("beaconfire_gateway_connections_opened_total", "Connections opened, on any transport.")
REFUSED = metrics.Counter(
    "beaconfire_gateway_handshakes_refused_total",
    "Connections refused before they were opened, on any transport, by reason.",
    ["reason"],
)


class Admission:
    """Checks requests that are to become connections. One for all transports.

    A transport calls `check_origin` first, does its own checks, and calls `enter` last. From then on the connection is
    counted: `refuse_entered` undoes that, or `Connection.gone` does.
    """

    def __init__(self, gateway: Gateway, *, allowed_origins: tuple[str, ...], addresses: ClientAddresses) -> None:
        self._gateway = gateway
        self._origins = frozenset(allowed_origins)
        self._addresses = addresses

    def check_origin(self, request: web.Request) -> None:
        """Raises HTTPForbidden if a page of another origin asks (T1).

        Without an Origin it is not a browser. Else it must be ours or a configured one, compared as a whole.
        """
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if not origins:
            return
        if len(origins) != 1 or (origins[0] not in self._origins and not is_own_origin(request)):
            self.refuse("origin")
            raise web.HTTPForbidden(reason="origin not allowed")

    def address_of(self, request: web.Request) -> str:
        """The address that a request is counted under."""
        return client_network(self._addresses.of(request))

    async def user_of(self, request: web.Request) -> Claims:
        """Return the user of a request without a session, by the token in its header. Raises BeaconfireError."""
        access = self._gateway.access
        try:
            claims = await access.verify(required_token(request))
        except TokenRefused as refused:
            self.count_attempt(request, refused)
            raise
        await access.decide(claims, ())
        return claims

    def count_attempt(self, request: web.Request, refused: TokenRefused) -> None:
        """Count an invalid token for its address, as at a socket. Raises LimitReached.

        One that has expired does not count, because it was valid once.
        """
        if refused.reason != "expired":
            self._gateway.door.spend_attempt(self.address_of(request), time.monotonic())

    def enter(self, request: web.Request) -> str:
        """Count a connection at the door, and return the address that it is counted under. Raises LimitReached."""
        address = self.address_of(request)
        try:
            self._gateway.door.enter(address)
        except LimitReached as reached:
            LIMITED.labels(reached.limit).inc()
            self.refuse(reached.limit)
            raise
        return address

    def refuse_entered(self, address: str, reason: str) -> None:
        """Log and count the refusal of a connection that was counted at the door."""
        self._gateway.door.leave(address, was_connected=False)
        self.refuse(reason)

    def refuse(self, reason: str) -> None:
        """Log and count a refusal. The transport answers the request."""
        REFUSED.labels(reason).inc()
        log.info("refused handshake", reason=reason)


def is_own_origin(request: web.Request) -> bool:
    """Whether the request's `Origin` is the gateway's own, with or without TLS in front of it."""
    scheme, _, host = request.headers.get(hdrs.ORIGIN, "").partition("://")
    return scheme in ("http", "https") and host == request.headers.get(hdrs.HOST, "")


def offered_token(request: web.Request) -> str:
    """The token that came with the request, in its header or its query; empty if none did. For WebSockets."""
    return bearer_token(request) or request.query.get("token", "")


def required_token(request: web.Request) -> str:
    """The token in the `Authorization` header. Raises BeaconfireError if there is none. For plain HTTP."""
    token = bearer_token(request)
    if not token:
        raise BeaconfireError(errors.TOKEN_INVALID, "send an access token: Authorization: Bearer …")
    return token
