"""Find the client behind a proxy, with the proxies of the settings. Count and log headers that cannot be read."""

import time

from aiohttp import web

from beaconfire_kit import logs, metrics
from beaconfire_kit.client_addresses import FORMATS, client_address
from beaconfire_kit.settings import BehindProxies

log = logs.get(__name__)

UNREADABLE = metrics.Counter(
    "beaconfire_http_forwarded_headers_unreadable_total",
    "Requests that counted for their proxy's address because its header with the client's address was "
    "unusable, by reason.",
    ["reason"],
)
LOG_EVERY_S = 60.0


class ClientAddresses:
    """Return the address of a request's client.

    One header is read, `BEACONFIRE_FORWARDED_HEADER`, and only from proxies in `BEACONFIRE_TRUSTED_PROXIES`. The other
    is never believed: a proxy that sets one passes on whatever a client wrote into the other.
    """

    def __init__(self, settings: BehindProxies) -> None:
        self._trusted = settings.trusted_proxies
        self._header = settings.forwarded_header
        self._read = FORMATS[settings.forwarded_header]
        self._logged_at: dict[str, float] = {}

    def of(self, request: web.Request) -> str:
        """Return the address, or "unknown" if the connection has none (a UNIX socket)."""
        headers = request.headers.getall(self._header, [])
        client = client_address(request.remote, self._read(headers), self._trusted)
        if client.unreadable is not None:
            UNREADABLE.labels(client.unreadable).inc()
            if self._is_due(client.unreadable):
                log.warning(
                    "a trusted proxy names no address that can be read: its clients count as one",
                    header=self._header,
                    reason=client.unreadable,
                    entry=client.entry[:80],
                )
        elif not headers:
            self._look_for_the_other(request, client.address)
        elif not self._trusted and self._is_due("untrusted"):
            log.warning("all clients of a proxy count as one address: name it in BEACONFIRE_TRUSTED_PROXIES")
        return client.address

    def _look_for_the_other(self, request: web.Request, address: str) -> None:
        other = next(name for name in FORMATS if name != self._header)
        nodes = FORMATS[other](request.headers.getall(other, []))
        if nodes and client_address(request.remote, nodes, self._trusted).address != address:
            UNREADABLE.labels("other_header").inc()
            if self._is_due("other_header"):
                log.warning(
                    "a trusted proxy sends another header than BEACONFIRE_FORWARDED_HEADER: its clients count as one",
                    header=other,
                )

    def _is_due(self, reason: str) -> bool:
        """Return whether this reason may be logged: each is logged once a minute."""
        now = time.monotonic()
        if now - self._logged_at.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
            return False
        self._logged_at[reason] = now
        return True
