"""Gateways that tell each other who is here."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from beaconfire.nats_server import NatsServer
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway


@pytest.fixture(name="pair")
async def _pair(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways on one broker."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_gateway(stream, auth))
        yield first, await stack.enter_async_context(running_gateway(stream, auth))
