"""What an attacker meets: the fixtures of the gateway's tests, and the whole set as processes, watched from outside."""

from tests.gateway.conftest import _auth, _gateway

__all__ = ["_auth", "_gateway"]
