"""A real gateway, as the gateway's own tests start it."""

from tests.gateway.conftest import _auth, _gateway

__all__ = ["_auth", "_gateway"]
