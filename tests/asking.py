"""The questions that services ask auth, as a test asks them: it waits until a busy machine answers."""

from nats.aio.client import Client

from beaconfire_kit import authorization
from beaconfire_kit.authorization import AuthorizeReply, AuthorizeRequest, GrantReply, GrantRequest
from tests.conftest import PATIENCE_S


async def authorize(nc: Client, request: AuthorizeRequest, *, timeout_s: float = PATIENCE_S) -> AuthorizeReply:
    """Ask what a user may hear. Raises as `beaconfire_kit.authorization.authorize` does."""
    return await authorization.authorize(nc, request, timeout_s=timeout_s)


async def grant(nc: Client, request: GrantRequest, *, timeout_s: float = PATIENCE_S) -> GrantReply:
    """Grant a role. Raises as `beaconfire_kit.authorization.grant` does."""
    return await authorization.grant(nc, request, timeout_s=timeout_s)
