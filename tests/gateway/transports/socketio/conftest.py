"""Clients of the `socket.io-client` package."""

from collections.abc import AsyncIterator

import pytest

from tests.socketio.clients import Driver, npm_clients


@pytest.fixture(name="driver")
async def _driver() -> AsyncIterator[Driver]:
    """A process that runs unmodified clients."""
    async with npm_clients() as driver:
        yield driver
