"""A real gateway and broker for the Python client; only auth is a stand-in."""

from collections.abc import AsyncIterator

import pytest

from beaconfire.nats_server import NatsServer
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer) -> AsyncIterator[FakeAuth]:
    """Auth, with `owner` and `viewer` as members of campaigns c1 and c2."""
    auth = FakeAuth()
    auth.members = {role: {"campaign:c1": role, "campaign:c2": role} for role in ("owner", "viewer")}
    async with auth.running(stream):
        yield auth


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Gateway]:
    async with running_gateway(stream, auth) as gateway:
        yield gateway
