"""Damage gateways and connections while clients of every other way in follow them: Socket.IO over each transport.

All clients connect through one load balancer without sticky sessions, so their requests arrive at any gateway.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.faults.listener import Listener
from tests.faults.socketio_followers import Place, SocketIOFollower, running
from tests.faults.world import ROOT, World, world
from tests.front import Front

Fault = Callable[[World, Front, int], Awaitable[None]]
"""(world, front, rounds). When it returns, every client has had all events up to the end of the fault."""

SETTINGS = {
    # Short, so that some resume from a gateway's memory and some from the stream.
    "BEACONFIRE_RING_AGE_S": "2",
    # Clients notice a dead connection after two of these.
    "BEACONFIRE_HEARTBEAT_S": "2",
}
SOCKETIO_WAYS = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "upgrade": ("polling", "websocket"),
}
ROOMS = (frozenset({ROOT}), frozenset({f"{ROOT}/settlement:s1"}))


async def gateways_killed(world: World, front: Front, rounds: int) -> None:
    """A gateway killed -9, one after the other. Its clients go on at the other one."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)]
        await world.written(30)
        gateway.kill()
        await world.catch_up()
        await asyncio.to_thread(gateway.start)


async def gateways_drained(world: World, front: Front, rounds: int) -> None:
    """A rolling restart: each gateway is asked to end, and started again."""
    for number in range(rounds):
        index = number % len(world.gateways)
        gateway = world.gateways[index]
        await world.written(30)
        front.left_out.add(index)
        gateway.terminate()
        await asyncio.to_thread(gateway.process.wait, 20)
        await world.catch_up()
        await asyncio.to_thread(gateway.start)
        front.left_out.discard(index)


async def gateways_frozen(world: World, front: Front, rounds: int) -> None:
    """A gateway's clock stopped until its clients have gone to the other one. Then it goes on, with dead sockets."""
    for number in range(rounds):
        index = number % len(world.gateways)
        gateway = world.gateways[index].process
        await world.written(30)
        front.left_out.add(index)
        gateway.freeze()
        await world.catch_up()
        gateway.thaw()
        front.left_out.discard(index)
        await world.written(20)


async def bytes_swallowed(world: World, front: Front, rounds: int) -> None:
    """All bytes of the connections lost in both directions, and no connection closed."""
    for _ in range(rounds):
        await world.written(30)
        front.swallow()
        await world.catch_up()


async def connections_cut(world: World, front: Front, rounds: int) -> None:
    """All connections cut again and again while events pour in: clients recover and upgrade in the middle of them."""
    for _ in range(rounds * 3):
        await world.written(30)
        front.cut()
        await world.catch_up()


FAULTS: Mapping[str, Fault] = {
    "gateways killed -9": gateways_killed,
    "gateways drained (SIGTERM)": gateways_drained,
    "gateways frozen": gateways_frozen,
    "bytes swallowed": bytes_swallowed,
    "connections cut in a burst": connections_cut,
}


@asynccontextmanager
async def other_ways(folder: Path, *, of_each: int = 1) -> AsyncIterator[tuple[World, Front]]:
    """A world whose clients come in on every other way, `of_each` on each."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(world(folder, settings=SETTINGS))
        front = await stack.enter_async_context(Front([gateway.port for gateway in one.gateways]).running())
        socketio = [
            SocketIOFollower(f"socketio-{name}-{number}", ROOMS[number % len(ROOMS)], way)
            for number in range(of_each)
            for name, way in SOCKETIO_WAYS.items()
        ]
        for follower in socketio:
            one.listen(follower)
        place = Place(front.url, lambda name: one.auth.token(name, ttl_s=3600), one.id_of)
        await stack.enter_async_context(running(socketio, place))
        await one.everybody_is_there()
        yield one, front


def trouble_of(listener: Listener) -> list[str]:
    """What a client met that no fault explains: refusals, and connections after which it had to start over."""
    found = list(listener.problems)
    if isinstance(listener, SocketIOFollower) and listener.recoveries < listener.connects - 1:
        found.append(f"recovered {listener.recoveries} of {listener.connects - 1} times, lost by {listener.lost}")
    return found
