"""Check access to campaigns, and limit the requests of each user and to each campaign."""

import time
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from beaconfire_kit import access
from beaconfire_publisher.settings import Settings

_USER: web.RequestKey[str] = web.RequestKey("user", str)


class Access(access.Access):
    """Check the caller of a request and the caller's role, and count the request."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, root_kind="campaign", source="api", service_token=settings.shown_token)
        self._requests = settings.requests()

    @property
    def count_body(self) -> Middleware:
        """Return a middleware that counts the bytes of a request's body for its user, however they were sent."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            finally:
                if (user_id := request.get(_USER)) is not None:
                    self._requests.sent(user_id, request.content.total_bytes, time.monotonic())

        return count

    def count_user(self, request: web.Request, user_id: str) -> None:
        """Count a request of a user. Raises `too_many`."""
        request[_USER] = user_id
        self._requests.by_user(user_id, time.monotonic())

    def count_send(self, roots: Collection[str]) -> None:
        """Count an event that a service sends to rooms of these roots. Raises `too_many`."""
        self._requests.sends(roots, time.monotonic())

    def count_root(self, root: str) -> None:
        """Count a request of a member of a root. Raises `too_many`."""
        self._requests.to_root(root, time.monotonic())
