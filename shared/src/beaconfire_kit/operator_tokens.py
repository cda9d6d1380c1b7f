"""Let only operators ask: check `Authorization: Bearer <BEACONFIRE_OPERATOR_TOKEN>`.

    operators = OperatorToken(settings.operator_token.get_secret_value())
    app[FOR_OPERATORS] = [web.get("/api/v1/things", operators.guarded(list_things))]

It is for calls on the operations port that show payloads, or that change more than one client. Access to the port is
not enough for them, because other programs of the same network reach it, too.
"""

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler

from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import bearer_token

log = logs.get(__name__)


class OperatorToken:
    """The token that operators send. If it is empty, every call is refused."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, request: web.Request) -> None:
        """Raise BeaconfireError (`forbidden` or `token_invalid`) unless the request carries the token."""
        if not self._token:
            raise BeaconfireError(
                errors.FORBIDDEN, "this service has no operator token: set its BEACONFIRE_OPERATOR_TOKEN"
            )
        given = bearer_token(request).encode(errors="surrogatepass")  # aiohttp's form of bytes that are not UTF-8
        if not hmac.compare_digest(given, self._token):
            log.warning("refused an operator", path=request.path)
            raise BeaconfireError(errors.TOKEN_INVALID, "the operator token is missing or wrong")

    def guarded(self, handler: Handler) -> Handler:
        """Return the handler with the check before it."""

        async def checked(request: web.Request) -> web.StreamResponse:
            self.check(request)
            return await handler(request)

        return checked
