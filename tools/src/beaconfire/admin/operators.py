"""Decide who may use the admin page: by the token of the request, its origin, and how often wrong tokens came.

The page sends its token in a header, and there is no cookie. So a page of another site cannot act for an operator, even
if it can reach this port. A request with a foreign `Origin` is refused all the same.
"""

import hmac
import time
from collections import OrderedDict
from enum import StrEnum

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from beaconfire.admin.settings import Settings
from beaconfire_kit import errors, logs
from beaconfire_kit.client_addresses import client_network
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.rates import spend
from beaconfire_kit.web import bearer_token

log = logs.get(__name__)

API = "/api/v1/admin/"
WRONG_TOKENS_A_MINUTE = 10
"""Per address. A correct token does not count."""
MAX_ADDRESSES = 10_000
_SAFE = frozenset({"GET", "HEAD"})


class Role(StrEnum):
    """What an operator may do."""

    READ = "read"
    ACT = "act"


ROLE: web.RequestKey[Role] = web.RequestKey("role", Role)
"""The role of a request that was let in."""


class Operators:
    """Lets operators in, and refuses everyone else."""

    def __init__(self, settings: Settings) -> None:
        tokens = {Role.ACT: settings.operator_token, Role.READ: settings.operator_read_token}
        self._tokens = {role: token.get_secret_value().encode() for role, token in tokens.items()}
        self._addresses = ClientAddresses(settings)
        self._wrong: OrderedDict[str, float] = OrderedDict()
        """For each address, when its wrong tokens are forgotten (`beaconfire_kit.rates`)."""

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check a call of the page. Files of the page are for everyone, because they contain no data."""
        if not request.path.startswith(API):
            return await handler(request)
        _check_origin(request)
        role = request[ROLE] = self._role(request)
        if request.method not in _SAFE:
            if role is not Role.ACT:
                raise BeaconfireError(errors.FORBIDDEN, "this token may only look: sign in with the operator token")
            log.info("an operator acts", path=request.path[:200], address=self._addresses.of(request))
        return await handler(request)

    def _role(self, request: web.Request) -> Role:
        """Return the role of the request's token. Raises BeaconfireError if it is missing or wrong."""
        address, now = client_network(self._addresses.of(request)), time.monotonic()
        _, wait_s = spend(self._wrong.get(address, 0.0), 1, WRONG_TOKENS_A_MINUTE, now)
        if wait_s:
            retry = round(wait_s * 1000)
            raise BeaconfireError(errors.TOO_MANY, "too many wrong tokens: wait a little", retry_after_ms=retry)
        given = bearer_token(request).encode(errors="surrogatepass")  # aiohttp's form of bytes that are not UTF-8
        for role, token in self._tokens.items():
            if token and hmac.compare_digest(given, token):
                return role
        if given:
            self._count(address, now)
            log.warning("refused an operator", path=request.path[:200], address=address)
        raise BeaconfireError(errors.TOKEN_INVALID, "This token is missing or wrong.")

    def _count(self, address: str, now: float) -> None:
        self._wrong[address], _ = spend(self._wrong.get(address, 0.0), 1, WRONG_TOKENS_A_MINUTE, now)
        self._wrong.move_to_end(address)
        while len(self._wrong) > MAX_ADDRESSES or next(iter(self._wrong.values())) < now:
            self._wrong.popitem(last=False)


def _check_origin(request: web.Request) -> None:
    """Refuse a page of another origin. The scheme is not compared, because a proxy may add TLS."""
    origins = request.headers.getall(hdrs.ORIGIN, [])
    own = request.headers.get(hdrs.HOST, "")
    if any(origin.partition("://")[2] != own for origin in origins):
        raise BeaconfireError(errors.FORBIDDEN, "a page of another origin may not use this one")
