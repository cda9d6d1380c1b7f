"""Sockets of ours without a gateway around them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from beaconfire_gateway.transports.sockets import Sockets
from tests.gateway.core import close_ends


@pytest.fixture(name="sockets")
async def _sockets() -> AsyncIterator[Sockets]:
    with closing(Sockets(asyncio.get_running_loop())) as sockets:
        yield sockets
    close_ends()
