"""Clients whose cursors are ahead of their gateway wait until it has reached their offsets."""

import asyncio
import json

import pytest

from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.websocket import WebSocket
from tests.gateway.core import open_connection
from tests.websocket import client_frame

END = 100
"""Of the stream. The gateway is at 0."""


class Stream:
    async def end(self) -> int:
        return END


@pytest.fixture(name="waiting")
async def _waiting(core: Core) -> list[WebSocket]:
    """Clients whose cursors are ahead of the gateway's position, by 5, 3, 5 and 7."""
    core.history = Stream()  # type: ignore[assignment]  # no session gets as far as a page
    connections = []
    for offset in (5, 3, 5, 7):
        one = open_connection(core, "u")
        hello = {"type": "connect", "id": 1, "rooms": ["campaign:c1"], "cursor": f":{offset}"}
        one.data_received(client_frame(json.dumps(hello).encode()))
        connections.append(one)
    while len(core.waiters.waiting) < len(connections):
        await asyncio.sleep(0)
    return connections


async def settled(core: Core, left: int) -> None:
    """Wait until so many questions are left, and no more."""
    while len(asyncio.all_tasks()) > 1 + left:
        await asyncio.sleep(0)


def states(connections: list[WebSocket]) -> list[State]:
    return [one.state for one in connections]


async def test_waiting_client_goes_on_in_the_turn_in_which_its_offset_is_reached(
    core: Core, waiting: list[WebSocket]
) -> None:
    found = []
    for position, left in ((2, 4), (3, 3), (6, 1), (7, 0)):
        core.position = position
        core.waiters.reached(position)
        await settled(core, left)
        found.append([state is not State.CONNECTING for state in states(waiting)])

    assert found == [
        [False, False, False, False],
        [False, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]
    assert core.waiters.waiting == []


async def test_nothing_is_kept_of_a_waiting_client_that_leaves(core: Core, waiting: list[WebSocket]) -> None:
    for one in waiting[:3]:
        one.abort()
    await settled(core, 1)

    assert [offset for offset, *_ in core.waiters.waiting] == [-7]


async def test_new_epoch_ends_all_waiting_for_offsets(core: Core, waiting: list[WebSocket]) -> None:
    core.epoch = "other"
    core.waiters.release()
    await settled(core, 0)

    assert states(waiting) == [State.LIVE] * 4
    assert core.waiters.waiting == []
